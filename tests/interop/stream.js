// One end of STREAM payments over an unchanged ilp-plugin-btp, steered by lines of JSON on stdin.
//
//   node stream.js '{"server": "btp+ws://user:token@127.0.0.1:3000", "names": {"pay.test": 8081}}'
//
//   {"id": 1, "do": "serve"}                                  -> {address, secret} of a STREAM server
//   {"id": 2, "do": "send", address, secret, amount}          -> {sent, delivered}, ilp-protocol-stream
//   {"id": 3, "do": "pay", pointer, amount}                   -> {sent, delivered}, @interledger/pay
//   {"id": 4, "do": "received"}                               -> {received} by the server
//
// `names`: hosts of payment pointers, and the ports on this machine that stand for their port 443.
// `asset`, `prices`: of the account here, and of all assets, for @interledger/pay. Default: USD.
'use strict'
const readline = require('readline')
const Plugin = require('ilp-plugin-btp')
const { createServer, createConnection } = require('ilp-protocol-stream')

const options = JSON.parse(process.argv[2])
const plugin = new Plugin({ server: options.server })
let received = 0n

const http = require('http')
const https = require('https')
const request = https.request
https.request = (asked, ...rest) => {
  const port = (options.names || {})[asked.hostname]
  if (!port) return request(asked, ...rest)
  return http.request({ ...asked, protocol: 'http:', hostname: '127.0.0.1', port, agent: undefined }, ...rest)
}

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

async function serve () {
  const server = await createServer({ plugin })
  server.on('connection', (connection) => {
    connection.on('stream', (stream) => {
      stream.setReceiveMax('18446744073709551615')
      stream.on('money', (amount) => { received += BigInt(amount) })
      stream.on('error', () => {})
    })
    connection.on('error', () => {})
  })
  const { destinationAccount, sharedSecret } = server.generateAddressAndSecret()
  return { address: destinationAccount, secret: sharedSecret.toString('base64') }
}

async function send ({ address, secret, amount }) {
  const connection = await createConnection({
    plugin, destinationAccount: address, sharedSecret: Buffer.from(secret, 'base64'), slippage: 0.05
  })
  const stream = connection.createStream()
  await stream.sendTotal(amount, { timeout: 60000 })
  const said = { sent: stream.totalSent, delivered: connection.totalDelivered }
  await connection.end()
  return said
}

async function pay ({ pointer, amount }) {
  const { setupPayment, startQuote, pay, closeConnection } = require('@interledger/pay')
  const one = await setupPayment({ plugin, destinationAccount: pointer })
  const quote = await startQuote({
    plugin,
    destination: one,
    amountToSend: BigInt(amount),
    sourceAsset: { code: options.asset || 'USD', scale: 9 },
    slippage: 0.05,
    prices: options.prices || { USD: 1 }
  })
  const receipt = await pay({ plugin, quote, destination: one })
  await closeConnection(plugin, one)
  return {
    sent: String(receipt.amountSent), delivered: String(receipt.amountDelivered), error: receipt.error
  }
}

const verbs = { serve, send, pay, received: async () => ({ received: String(received) }) }

plugin.connect().then(() => {
  say({ event: 'started' })
  readline.createInterface({ input: process.stdin }).on('line', async (line) => {
    const asked = JSON.parse(line)
    try {
      say({ id: asked.id, ...(await verbs[asked.do](asked)) })
    } catch (error) {
      say({ id: asked.id, error: String(error && error.stack || error) })
    }
  }).on('close', () => process.exit(0))
}, (error) => { say({ event: 'failed', error: String(error) }); process.exit(1) })
