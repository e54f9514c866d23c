// One ilp-plugin-btp or ilp-plugin-http peer, steered by lines of JSON: commands on stdin, answers and events on stdout.
//
//   node peer.js '{"server": "btp+ws://alice:token@127.0.0.1:3000"}'            dials
//   node peer.js '{"listener": {"port": 7001, "secret": "token"}}'              is dialled
//   node peer.js '{"plugin": "ilp-plugin-http", "incoming": {...}, "outgoing": {...}}'
//
//   {"id": 1, "do": "send", "prepare": {amount, destination, expiresInMs, condition, data}}
//   {"id": 2, "do": "behave", "how": {"fulfill": "data" | <hex>} | {"reject": {...}} | "silent"}
//   {"id": 3, "do": "seen"}      the Prepares that came, and forgets them
//   {"id": 4, "do": "state"}     whether connected, and the websocket extensions in use
//
// Octets are hex. By default a Prepare is fulfilled with the first 32 octets of its data.
'use strict'

const readline = require('readline')
const ilp = require('ilp-packet')

const { plugin: name = 'ilp-plugin-btp', ...options } = JSON.parse(process.argv[2])
const Plugin = require(name)
const plugin = new Plugin(options)
const seen = []
let behaviour = { fulfill: 'data' }

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

function readable (packet) {
  const data = packet.data
  const fields = { type: packet.typeString.slice(4), data: data.data.toString('hex') }
  for (const name of ['amount', 'destination', 'code', 'triggeredBy', 'message']) {
    if (name in data) fields[name] = data[name]
  }
  if (data.expiresAt) fields.expiresAt = data.expiresAt.getTime()
  if (data.executionCondition) fields.condition = data.executionCondition.toString('hex')
  if (data.fulfillment) fields.fulfillment = data.fulfillment.toString('hex')
  return fields
}

async function answer (octets) {
  const prepare = ilp.deserializeIlpPrepare(octets)
  seen.push(readable({ typeString: 'ilp_prepare', data: prepare }))
  if (behaviour === 'silent') return new Promise(() => {})
  if (behaviour.reject) {
    const { code, triggeredBy, message, data } = behaviour.reject
    return ilp.serializeIlpReject({ code, triggeredBy, message, data: Buffer.from(data, 'hex') })
  }
  const fulfillment = behaviour.fulfill === 'data'
    ? prepare.data.subarray(0, 32)
    : Buffer.from(behaviour.fulfill, 'hex')
  return ilp.serializeIlpFulfill({ fulfillment, data: prepare.data.subarray(32) })
}

const commands = {
  async send ({ prepare }) {
    const octets = ilp.serializeIlpPrepare({
      amount: prepare.amount,
      destination: prepare.destination,
      expiresAt: new Date(Date.now() + prepare.expiresInMs),
      executionCondition: Buffer.from(prepare.condition, 'hex'),
      data: Buffer.from(prepare.data, 'hex')
    })
    const reply = await plugin.sendData(octets)
    return { ...readable(ilp.deserializeIlpPacket(reply)), octets: reply.toString('hex') }
  },
  async behave ({ how }) {
    behaviour = how
    return {}
  },
  async seen () {
    return { prepares: seen.splice(0) }
  },
  async state () {
    const socket = plugin._ws ? plugin._ws._instance : plugin._incomingWs
    return { connected: plugin.isConnected(), extensions: socket ? Object.keys(socket.extensions || {}) : [] }
  }
}

plugin.registerDataHandler(answer)
plugin.on('connect', () => say({ event: 'connect' }))
plugin.on('disconnect', () => say({ event: 'disconnect' }))
plugin.connect().catch((error) => say({ event: 'failed', message: error.message }))

const input = readline.createInterface({ input: process.stdin })
input.on('line', async (line) => {
  const command = JSON.parse(line)
  try {
    say({ id: command.id, ...await commands[command.do](command) })
  } catch (error) {
    say({ id: command.id, error: error.message })
  }
})
input.on('close', () => process.exit(0))
say({ event: 'started' })
