// SPDX-License-Identifier: Apache-2.0
// The npm package coap, which lies in FOLDER, as a server and as a client.
//   node coap_node.js FOLDER serve           prints its port, and serves until it is killed
//   node coap_node.js FOLDER ask < requests  a JSON array; prints what came of them as JSON
'use strict';
const path = require('path');
const coap = require(path.join(process.argv[2], 'node_modules', 'coap'));

function longText(bytes) {
  let text = '';
  for (let i = 0; text.length < bytes; ++i) text += i + ' ';
  return text.slice(0, bytes);
}

function serve() {
  let stored = 'stored';
  const server = coap.createServer({type: 'udp6'}, (req, res) => {
    const route = req.url.split('?')[0];
    if (route === '/text' && req.method === 'GET') {
      res.setOption('Content-Format', 'text/plain');
      res.setOption('ETag', 'tag');
      return res.end('a text');
    }
    if (route === '/query') return res.end(req.url);
    if (route === '/large') return res.end(longText(20000));
    if (route === '/count') {
      if (req.headers.Observe !== 0) return res.end('0');
      let count = 0;
      const tick = () => res.write(String(count++));
      tick();
      const timer = setInterval(tick, 50);
      return res.on('finish', () => clearInterval(timer));
    }
    if (route === '/store') {
      if (req.method === 'GET') return res.end(stored);
      if (req.method === 'PUT' || req.method === 'POST') {
        stored = req.payload.toString();
        res.code = req.method === 'PUT' ? '2.04' : '2.01';
        return res.end();
      }
      if (req.method === 'DELETE') {
        stored = '';
        res.code = '2.02';
        return res.end();
      }
    }
    if (route === '/failure') {
      res.code = '5.00';
      return res.end('broken');
    }
    res.code = '4.04';
    res.end('nothing here');
  });
  server.listen(Number(process.argv[4] || 0), '::1', () => {
    console.log(server._sock.address().port);
  });
}

function ask(request) {
  return new Promise((resolve) => {
    const req = coap.request({
      hostname: '::1', port: request.port, pathname: request.path, method: request.method || 'GET',
      query: request.query, confirmable: request.confirmable !== false,
      observe: request.observe !== undefined
    });
    const timer = setTimeout(() => resolve({error: 'no answer'}), 20000);
    const done = (result) => {
      clearTimeout(timer);
      resolve(result);
    };
    for (const [name, value] of Object.entries(request.options || {}))
      req.setOption(name, Array.isArray(value) ? Buffer.from(value) : value);
    req.on('error', (error) => done({error: String(error.message)}));
    req.on('response', (res) => {
      if (request.observe === undefined)
        return done({code: res.code, payload: res.payload.toString(),
                     format: res.headers['Content-Format']});
      const seen = [];
      res.on('data', (chunk) => {
        seen.push(chunk.toString());
        if (seen.length < request.observe) return;
        res.close();
        done({code: res.code, seen});
      });
    });
    req.end(request.payload === undefined ? undefined : Buffer.from(request.payload));
  });
}

async function askAll() {
  const text = require('fs').readFileSync(0, 'utf8');
  const results = [];
  for (const request of JSON.parse(text)) results.push(await ask(request));
  console.log(JSON.stringify(results));
  process.exit(0);
}

process.argv[3] === 'serve' ? serve() : askAll();
