// Listening: connections that arrive together.

import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import type { Http } from '../../src/http/app.ts'
import { listen } from '../../src/http/listen.ts'

/** Opens `count` connections with a request on each, and says so in shared memory once all are sent. */
const CLIENT = `
const { workerData: { port, count, sent } } = require('node:worker_threads')
const net = require('node:net')
let written = 0
for (let i = 0; i < count; i++) {
  const socket = net.connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n', () => {
    if (++written === count) Atomics.notify(sent, 0, Atomics.add(sent, 0, 1) + 1)
  }))
  socket.resume()
}`

test('connections that arrive together are all taken before the first of their requests begins', async () => {
  const count = 12
  const connections: number[] = []
  let done: () => void = () => {}
  const all = new Promise<void>((resolve) => {
    done = resolve
  })
  const http = {
    async fetch(_request: Request, node: { incoming: { socket: { server: { _connections: number } } } }) {
      connections.push(node.incoming.socket.server._connections)
      if (connections.length === count) done()
      return new Response('ok')
    },
  }
  const at = await listen(http as unknown as Http, { host: '127.0.0.1', port: 0 })
  const sent = new Int32Array(new SharedArrayBuffer(4))
  const client = new Worker(CLIENT, { eval: true, workerData: { port: at.port, count, sent } })
  // Nothing is taken before all are there.
  Atomics.wait(sent, 0, 0)
  await all
  expect(connections[0]).toBe(count)
  await at.close(0)
  await client.terminate()
})
