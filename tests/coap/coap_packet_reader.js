// SPDX-License-Identifier: Apache-2.0
// Reads datagrams in hexadecimal digits, one a line, with the npm package coap-packet, and writes what
// each says: "type code id token number=value,… payload", or "error". The folder that the package
// is installed in is the argument.
'use strict'
const path = require('path')
const coap = require(path.join(process.argv[2], 'node_modules', 'coap-packet'))

const numbers = {
  'If-Match': 1, 'Uri-Host': 3, ETag: 4, 'If-None-Match': 5, Observe: 6, 'Uri-Port': 7,
  'Location-Path': 8, OSCORE: 9, 'Uri-Path': 11, 'Content-Format': 12, 'Max-Age': 14,
  'Uri-Query': 15, 'Hop-Limit': 16, Accept: 17, 'Q-Block1': 19, 'Location-Query': 20, Block2: 23,
  Block1: 27, Size2: 28, 'Q-Block2': 31, 'Proxy-Uri': 35, 'Proxy-Scheme': 39, Size1: 60,
  'No-Response': 258, 'OCF-Accept-Content-Format-Version': 2049,
  'OCF-Content-Format-Version': 2053
}

function read (line) {
  try {
    const packet = coap.parse(Buffer.from(line, 'hex'))
    const type = packet.reset ? 3 : packet.ack ? 2 : packet.confirmable ? 0 : 1
    const options = packet.options.map((option) => {
      const number = numbers[option.name] ?? option.name
      return `${number}=${option.value.toString('hex')}`
    })
    return [type, packet.code, packet.messageId, packet.token.toString('hex') || '-',
      options.join(',') || '-', packet.payload.toString('hex') || '-'].join(' ')
  } catch (error) {
    return 'error'
  }
}

const lines = require('fs').readFileSync(0, 'latin1').split('\n')
if (lines[lines.length - 1] === '') lines.pop()
process.stdout.write(lines.map((line) => read(line) + '\n').join(''))
