// The codecs of btp-packet and ilp-packet behind lines of JSON; octets are hex, bodies as below.
//
//   {"codec": "ilp" | "btp", "do": "make", "seed": 1, "count": 300}   random packets, encoded
//   {"codec": "ilp" | "btp", "do": "read", "octets": [...]}           fields, and encoded anew
//
// Each line is answered by a list of {"fields": ..., "octets": ...}, or {"error": ...} in its place.
'use strict'

const readline = require('readline')
const btp = require('btp-packet')
const ilp = require('ilp-packet')

// A small generator with a seed (mulberry32), so that a failure can be repeated.
function generator (seed) {
  return function () {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function maker (seed) {
  const random = generator(seed)
  const below = (limit) => Math.floor(random() * limit)
  const pick = (list) => list[below(list.length)]
  const bytes = (size) => Buffer.from(Array.from({ length: size }, () => below(256)))
  // Sizes around which the form of a length changes.
  const size = () => pick([0, 1, 31, 32, 126, 127, 128, 129, 255, 256, 257, 1000, 32767])
  const text = (letters, length) => Array.from({ length }, () => pick(Array.from(letters))).join('')
  const segment = () => text('abcXYZ019_~-', 1 + below(12))
  const address = () => [pick(['g', 'test', 'private', 'example', 'peer', 'self', 'local']),
    ...Array.from({ length: 1 + below(6) }, segment)].join('.')
  const words = () => text('abc ÄöŁ€中🙂\u0000"', below(60))
  const u64 = () => pick([0n, 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n, bytes(8).readBigUInt64BE()]).toString()
  const moment = () => new Date(pick([0, 951782400000, 1709210096789, below(253402300799999)]))
  const code = () => text('ABCFRTZ', 1) + text('0123456789', 2)
  const protocol = (name) => ({ protocolName: name, contentType: below(3), data: bytes(below(200)) })
  const protocols = () => ['ilp', 'auth', 'auth_username', 'auth_token', 'custom-' + segment()]
    .filter(() => random() < 0.5).map(protocol)

  return {
    ilp: () => pick([
      () => ({
        type: ilp.Type.TYPE_ILP_PREPARE,
        data: { amount: u64(), expiresAt: moment(), executionCondition: bytes(32), destination: address(), data: bytes(size()) }
      }),
      () => ({ type: ilp.Type.TYPE_ILP_FULFILL, data: { fulfillment: bytes(32), data: bytes(size()) } }),
      () => ({
        type: ilp.Type.TYPE_ILP_REJECT,
        data: { code: code(), triggeredBy: pick(['', address()]), message: words(), data: bytes(size()) }
      })
    ])(),
    btp: () => pick([
      () => ({ type: btp.TYPE_MESSAGE, data: { protocolData: protocols() } }),
      () => ({ type: btp.TYPE_RESPONSE, data: { protocolData: protocols() } }),
      () => ({ type: btp.TYPE_TRANSFER, data: { amount: u64(), protocolData: protocols() } }),
      () => ({
        type: btp.TYPE_ERROR,
        data: { code: code(), name: segment(), triggeredAt: moment(), data: words(), protocolData: protocols() }
      })
    ].map((make) => () => ({ requestId: below(2 ** 32), ...make() })))()
  }
}

// Buffers as hex, moments as milliseconds, amounts as text: what JSON can carry without loss.
function plain (value) {
  if (Buffer.isBuffer(value)) return value.toString('hex')
  if (value instanceof Date) return value.getTime()
  if (Array.isArray(value)) return value.map(plain)
  if (value && value.constructor && value.constructor.name === 'Long') return value.toString()
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]))
  }
  return value
}

const codecs = {
  ilp: { read: ilp.deserializeIlpPacket, write: ilp.serializeIlpPacket },
  btp: { read: btp.deserialize, write: btp.serialize }
}

const verbs = {
  make ({ codec, seed, count }) {
    const make = maker(seed)[codec]
    return Array.from({ length: count }, () => {
      const fields = make()
      return { fields: plain(fields), octets: codecs[codec].write(fields).toString('hex') }
    })
  },
  read ({ codec, octets }) {
    return octets.map((one) => {
      try {
        const fields = codecs[codec].read(Buffer.from(one, 'hex'))
        return { fields: plain(fields), octets: codecs[codec].write(fields).toString('hex') }
      } catch (error) {
        return { error: error.message }
      }
    })
  }
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const command = JSON.parse(line)
  process.stdout.write(JSON.stringify(verbs[command.do](command)) + '\n')
})
