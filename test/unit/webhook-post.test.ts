// Sending one webhook to receivers of every kind: whatever they do, it ends in time, reads little, and tells no more than it may.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { createPost } from '../../src/worker/webhook-post.ts'
import { holdPort } from '../support/cli.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { untrusted } from '../support/tls.ts'
import { until } from '../support/until.ts'

let receiver: Receiver
const open: { close: () => unknown }[] = []
beforeAll(async () => {
  receiver = await startReceiver()
})
afterAll(async () => {
  await receiver.close()
  for (const server of open) server.close()
})

const post = createPost({ allowPrivate: true, timeoutMs: 400 })
const send = (url: string, options: { with?: typeof post; signal?: AbortSignal; body?: string } = {}) =>
  (options.with ?? post)({
    url,
    headers: { 'content-type': 'application/json' },
    body: options.body ?? '{"a":1}',
    signal: options.signal ?? new AbortController().signal,
  })
/** A server that does with each connection what the test says. */
async function raw(serve: (socket: Socket) => void): Promise<string> {
  const server: Server = createTcp((socket) => {
    socket.on('error', () => {})
    serve(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(server)
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}
const tooSlow = { reason: 'The receiver did not answer within 0.4 s.', final: false }

test('the body arrives as it is, and the status and Retry-After come back', async () => {
  receiver.on('/busy?a=b', (response) => response.writeHead(503, { 'retry-after': '7' }).end('secret words'))
  const body = JSON.stringify({ text: 'ä\u2028\u{1F600}' })
  expect(await send(`${receiver.url}/busy?a=b`, { body })).toEqual({ status: 503, retryAfter: '7' })
  const [{ method, text } = { method: '', text: '' }] = await receiver.came('/busy?a=b')
  expect([method, text]).toEqual(['POST', body])
})

test('a receiver that never answers is left after the timeout', async () => {
  receiver.on('/hangs', () => {})
  expect(await send(`${receiver.url}/hangs`)).toEqual(tooSlow)
})

test('a receiver that does not even read is left as well', async () => {
  const url = await raw((socket) => socket.pause())
  expect(await send(url, { body: JSON.stringify('x'.repeat(20_000_000)) })).toEqual(tooSlow)
})

test('a receiver that drips its headers is left after the timeout, however lively it is', async () => {
  const url = await raw((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n')
    const dripping = setInterval(() => socket.write('x-drip: 1\r\n'), 20)
    socket.on('close', () => clearInterval(dripping))
  })
  expect(await send(url)).toEqual(tooSlow)
})

test.each([
  [200, { status: 200, retryAfter: undefined }],
  [500, { status: 500, retryAfter: undefined }],
])('of a receiver that answers %i and then drips, the status counts', async (status, answer) => {
  let closed = false
  receiver.on(`/drips-${status}`, (response) => {
    response.writeHead(status)
    const dripping = setInterval(() => response.write('.'), 20)
    response.on('close', () => {
      closed = true
      clearInterval(dripping)
    })
  })
  expect(await send(`${receiver.url}/drips-${status}`)).toEqual(answer)
  await until('the receiver is left', () => closed)
})

test('of an endless answer little is read', async () => {
  let sent = 0
  receiver.on('/endless', (response) => {
    response.writeHead(200)
    const chunk = Buffer.alloc(16 * 1024)
    const more = () => {
      while (!response.destroyed && response.write(chunk)) sent += chunk.length
    }
    response.on('drain', more)
    more()
  })
  const patient = createPost({ allowPrivate: true, timeoutMs: 60_000 })
  expect(await send(`${receiver.url}/endless`, { with: patient })).toEqual({ status: 200, retryAfter: undefined })
  // What the sockets of both sides hold comes on top.
  expect(sent).toBeLessThan(16 * 1024 * 1024)
})

test('a redirect is an answer like another', async () => {
  receiver.on('/moved', (response) => response.writeHead(307, { location: `${receiver.url}/hidden` }).end())
  expect(await send(`${receiver.url}/moved`)).toEqual({ status: 307, retryAfter: undefined })
  expect(receiver.received.filter(({ path }) => path === '/hidden')).toEqual([])
})

test('what is no answer is told of in words that say nothing of the network', async () => {
  const { port, release } = await holdPort()
  await release()
  expect(await send(`http://127.0.0.1:${port}/`)).toEqual({
    reason: 'The receiver refused the connection.',
    final: false,
  })
  const closes = await raw((socket) => socket.on('data', () => socket.destroy()))
  const nothing = { reason: 'The receiver closed the connection without an answer.', final: false }
  expect(await send(closes)).toEqual(nothing)
  const babbles = await raw((socket) => socket.on('data', () => socket.end('nonsense\r\n\r\n')))
  expect(await send(babbles)).toEqual({
    reason: 'The receiver could not be talked to (HPE_INVALID_CONSTANT).',
    final: false,
  })
  const plain = receiver.url.replace('http:', 'https:')
  expect(await send(plain)).toMatchObject({
    reason: expect.stringMatching(/^The receiver could not be trusted \(E\w+\)\.$/),
  })
  const failing = (code: string) =>
    createPost({
      allowPrivate: true,
      resolve: () => Promise.reject(Object.assign(new Error('queryA 10.0.0.1'), { code })),
    })
  const notFound = { reason: 'The receiver was not found in the DNS.', final: false }
  expect(await send('http://a.example/', { with: failing('ENOTFOUND') })).toEqual(notFound)
})

test('a receiver whose certificate nobody vouches for gets nothing', async () => {
  let heard = 0
  const server = createHttps(untrusted, (_, response) => {
    heard++
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(server)
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/`
  expect(await send(url)).toEqual({
    reason: 'The receiver could not be trusted (DEPTH_ZERO_SELF_SIGNED_CERT).',
    final: false,
  })
  expect(heard).toBe(0)
})

test('a name server that is silent costs no more than the timeout', async () => {
  const silent = createPost({ allowPrivate: false, timeoutMs: 300, resolve: () => new Promise(() => {}) })
  expect(await send('http://a.example/', { with: silent })).toEqual({
    reason: 'The receiver did not answer within 0.3 s.',
    final: false,
  })
})

test('a try that is broken off ends at once', async () => {
  const stop = new AbortController()
  receiver.on('/broken', () => stop.abort())
  const patient = createPost({ allowPrivate: true, timeoutMs: 60_000 })
  expect(await send(`${receiver.url}/broken`, { with: patient, signal: stop.signal })).toMatchObject({ final: false })
  expect(await send(`${receiver.url}/late`, { with: patient, signal: stop.signal })).toMatchObject({ final: false })
  expect(receiver.received.filter(({ path }) => path === '/late')).toEqual([])
})

test('a path goes to the custom app, wherever that is now, and an app that is not there is a try that failed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-test-'))
  const socketPath = join(folder, 'app')
  const got: string[] = []
  const server = createServer((request, response) => {
    got.push(`${request.method} ${request.url} ${request.headers.host}`)
    if (request.url !== '/never') response.writeHead(request.url === '/moved' ? 302 : 200, { location: '/other' }).end()
  }).listen(socketPath)
  open.push(server)
  await once(server, 'listening')
  const instance = { socketPath, ended: new Promise<string>(() => {}) }
  const app = { start: async () => undefined, open: async () => instance }
  const toApp = createPost({ allowPrivate: false, timeoutMs: 400, app })
  expect(await send('/hook?a=1', { with: toApp })).toEqual({ status: 200, retryAfter: undefined })
  expect(await send('/moved', { with: toApp })).toEqual({ status: 302, retryAfter: undefined })
  const late = { reason: 'The receiver did not answer within 0.4 s.', final: false }
  expect(await send('/never', { with: toApp })).toEqual(late)
  expect(got).toEqual(['POST /hook?a=1 localhost', 'POST /moved localhost', 'POST /never localhost'])

  const starting = createPost({
    allowPrivate: false,
    timeoutMs: 400,
    app: { ...app, start: () => new Promise(() => {}) },
  })
  expect(await send('/hook', { with: starting })).toEqual(late)
  const open_ = () => Promise.reject(new ApiError('app_unavailable', 'The custom app ended.'))
  const gone = createPost({ allowPrivate: false, app: { ...app, open: open_ } })
  expect(await send('/hook', { with: gone })).toEqual({ reason: 'The custom app ended.', final: false })
  expect(await send('/hook')).toEqual({ reason: 'This server has no custom app (http.app).', final: false })
  server.closeAllConnections()
  rmSync(folder, { recursive: true })
})
