// SPDX-License-Identifier: Apache-2.0
// Node.js: promises, timers, streams, files, hashes, compression, worker threads, JSON, garbage.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const zlib = require('zlib');
const {Worker, isMainThread, parentPort, workerData} = require('worker_threads');

if (!isMainThread) {
  let sum = 0;
  for (let i = 0; i < workerData; i++) sum += i;
  parentPort.postMessage(sum);
} else {
  main();
}

function runWorker(data) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(__filename, {workerData: data});
    worker.on('message', resolve);
    worker.on('error', reject);
  });
}

async function main() {
  const folder = process.argv[2] || '/tmp';
  const order = [];
  setTimeout(() => order.push('timeout'), 5);
  setImmediate(() => order.push('immediate'));
  process.nextTick(() => order.push('tick'));
  await Promise.resolve().then(() => order.push('promise'));
  await new Promise((resolve) => setTimeout(resolve, 20));
  console.log(order.join(' '));
  const base = path.join(folder, 'node', 'deep');
  fs.mkdirSync(base, {recursive: true});
  await Promise.all([...Array(20).keys()].map(
      (i) => fs.promises.writeFile(path.join(base, `file${i}`), 'x'.repeat(i))));
  const sizes = await Promise.all(
      (await fs.promises.readdir(base)).map(async (name) => (await fs.promises.stat(path.join(base, name))).size));
  console.log('files', sizes.reduce((a, b) => a + b), fs.existsSync('/none'));
  console.log(crypto.createHash('sha256').update('text').digest('hex'));
  console.log(await new Promise((resolve, reject) => crypto.pbkdf2('a', 'b', 1000, 16, 'sha256',
      (error, key) => error ? reject(error) : resolve(key.toString('hex')))));
  const packed = await new Promise((resolve) => zlib.gzip('text'.repeat(1000), (error, data) => resolve(data)));
  console.log(zlib.gunzipSync(packed).length);
  let kept = 0;
  for (let i = 0; i < 300000; i++) kept += [i, {i}].length;
  console.log('garbage', kept, JSON.stringify({b: [1, null, true], a: 'ü'}), 2n ** 100n);
  console.log('workers', await Promise.all([1000, 2000].map(runWorker)));
  try {
    null.field;
  } catch (error) {
    console.log(error.constructor.name);
  }
  let input = 0;
  for await (const chunk of process.stdin) input += chunk.length;
  console.log(input, 'bytes of input');
  process.exitCode = 16;
}
