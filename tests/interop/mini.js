// An unchanged ilp-plugin-mini-accounts: the parent that our node dials, with both ends of STREAM behind it;
// steered by lines of JSON on stdin.
//
//   node mini.js '{"port": 7768, "token": "secret"}'          -> {"event": "started", "account": its segment}
//
//   {"id": 1, "do": "serve"}                                  -> {address, secret}, @interledger/stream-receiver
//   {"id": 2, "do": "send", address, secret, amount, data}    -> {sent, delivered, error}, ilp-protocol-stream
//   {"id": 3, "do": "received"}                               -> {received, packets} by the server
//   {"id": 4, "do": "decline"}                                -> {}: the server declines from now on
'use strict'
const crypto = require('crypto')
const readline = require('readline')
const Plugin = require('ilp-plugin-mini-accounts').default || require('ilp-plugin-mini-accounts')
const { createConnection } = require('ilp-protocol-stream')
const { deserializeIlpPrepare, isFulfill, isReject, serializeIlpReply } = require('ilp-packet')
const { StreamServer } = require('@interledger/stream-receiver')

const options = JSON.parse(process.argv[2])
const ADDRESS = 'test.mini'
const plugin = new Plugin({
  wsOpts: { host: '127.0.0.1', port: options.port },
  debugHostIldcpInfo: { clientAddress: ADDRESS, assetCode: 'USD', assetScale: 9 }
})
const server = new StreamServer({ serverSecret: crypto.randomBytes(32), serverAddress: ADDRESS })
const got = { received: 0n, packets: 0 }
let declines = false

plugin.registerDataHandler(async (octets) => {
  const prepare = deserializeIlpPrepare(octets)
  const reply = server.createReply(prepare)
  if (isFulfill(reply) || isReject(reply)) return serializeIlpReply(reply)
  if (declines) return serializeIlpReply(reply.finalDecline())
  got.received += BigInt(prepare.amount)
  got.packets += 1
  reply.setTotalReceived(got.received.toString())
  return serializeIlpReply(reply.accept())
})

async function serve () {
  const { ilpAddress, sharedSecret } = server.generateCredentials({ asset: { code: 'USD', scale: 9 } })
  return { address: ilpAddress, secret: sharedSecret.toString('base64') }
}

// The client takes no packets, so the server keeps the handler of the plugin.
const outgoing = {
  connect: async () => {},
  disconnect: async () => {},
  isConnected: () => true,
  sendData: (octets) => plugin.sendData(octets),
  registerDataHandler: () => {},
  deregisterDataHandler: () => {}
}

async function send ({ address, secret, amount, data }) {
  const connection = await createConnection({
    plugin: outgoing, destinationAccount: address, sharedSecret: Buffer.from(secret, 'base64'), slippage: 0.05
  })
  let error = ''
  connection.on('error', (fault) => { error = String(fault) })
  const stream = connection.createStream()
  stream.on('error', (fault) => { error = String(fault) })
  try {
    if (data) await new Promise((resolve) => stream.write(data, resolve))
    await stream.sendTotal(amount, { timeout: 20000 })
  } catch (fault) {
    error = error || String(fault)
  }
  const said = { sent: stream.totalSent, delivered: connection.totalDelivered, error }
  await connection.destroy()
  return said
}

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const verbs = {
  serve,
  send,
  received: async () => ({ received: String(got.received), packets: got.packets }),
  decline: async () => { declines = true; return {} }
}

plugin.connect().then(() => {
  const account = crypto.createHash('sha256').update(options.token).digest('base64url')
  say({ event: 'started', account })
  readline.createInterface({ input: process.stdin }).on('line', async (line) => {
    const asked = JSON.parse(line)
    try {
      say({ id: asked.id, ...(await verbs[asked.do](asked)) })
    } catch (error) {
      say({ id: asked.id, error: String(error && error.stack || error) })
    }
  }).on('close', () => process.exit(0))
}, (error) => { say({ event: 'failed', error: String(error) }); process.exit(1) })
