import { Annotation, END, START, StateGraph } from '@langchain/langgraph'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { createGates } from '../support/gates.ts'
import { type Operation, operations } from '../support/operations.ts'
import { createSender, openSocket } from '../support/raw.ts'
import { startServer, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

vi.setConfig({ testTimeout: 60_000 })

const LIMIT = 100_000
const ID = '01a20567-c6c4-70a6-a258-3bfa83db32c3'
const gates = createGates()
/** Waits at the gate that its input names. */
const held = new StateGraph(Annotation.Root({ gate: Annotation<string>() }))
  .addNode('wait', async ({ gate }, { signal }) => {
    await gates.pass(gate, signal)
    return { gate: `passed ${gate}` }
  })
  .addEdge(START, 'wait')
  .addEdge('wait', END)
  .compile()

let server: TestServer
let sender: ReturnType<typeof createSender>
let url = ''
beforeAll(async () => {
  server = await startServer({ graphs: { held }, dev: true, config: { bodyLimitBytes: LIMIT } })
  url = (await server.heddle.listen()).url
  sender = createSender(url)
})
afterAll(async () => {
  sender?.close()
  await server?.close()
})

const titled = operations.map((one): [string, Operation] => [one.title, one])
const withBody = titled.filter(([, { body }]) => body !== undefined)
const pathOf = ({ path }: Operation) => path.replaceAll(/\{\w+\}/g, ID)
const send: ReturnType<typeof createSender>['send'] = (sent) => sender.send(sent)
const head = ({ method }: Operation, path: string, more = '') =>
  `${method} ${path} HTTP/1.1\r\nHost: heddle\r\nContent-Type: application/json\r\n${more}`

/** Writes to a socket and gives what came back once it fits, or the connection has closed. */
async function exchange(text: string, enough: RegExp): Promise<string> {
  const { socket, received, closed } = await openSocket(url)
  socket.write(text)
  let over = false
  void closed.then(() => (over = true))
  await until(`an answer that fits ${enough}`, () => over || enough.test(received()))
  socket.destroy()
  return received()
}

describe('every endpoint', () => {
  test.each(titled)('lets a browser from anywhere ask before %s, and read its refusals', async (_, operation) => {
    const { method } = operation
    const path = pathOf(operation)
    const asked = await send({
      method: 'OPTIONS',
      path,
      headers: {
        origin: 'https://app.example',
        'access-control-request-method': method,
        'access-control-request-headers': 'x-api-key, last-event-id, idempotency-key',
      },
    })
    expect(asked.status).toBe(204)
    expect(asked.headers['access-control-allow-origin']).toBe('*')
    expect(asked.headers['access-control-allow-methods']).toContain(method)
    expect(asked.headers['access-control-allow-headers']).toBe('x-api-key, last-event-id, idempotency-key')
    expect(asked.headers['access-control-allow-credentials']).toBeUndefined()
    const headers = { origin: 'https://app.example', 'x-request-id': 'asked-1', 'content-type': 'application/json' }
    const refused = await send({ method: 'TRACE', path, headers, body: '{' })
    expect(refused.status).toBe(405)
    expect(refused.headers['access-control-allow-origin']).toBe('*')
    const bad = operation.body ? { method, path, headers, body: '{' } : { method, path: `${path}%00`, headers }
    const answer = await send(bad)
    expect([400, 404, 422]).toContain(answer.status)
    expect(answer.headers['access-control-allow-origin']).toBe('*')
    expect(answer.headers['access-control-expose-headers']).toContain('content-location')
    expect(answer.headers['x-request-id']).toBe('asked-1')
    expect(answer.headers['x-content-type-options']).toBe('nosniff')
  })

  test.each(titled)('says which methods its path has: %s', async (_, operation) => {
    const path = pathOf(operation)
    const fits = (template: string) => new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path)
    const own = operations.filter((one) => fits(one.path)).map(({ method }) => method)
    const has = new Set([...own, ...(own.includes('GET') ? ['HEAD'] : []), 'OPTIONS'])
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'].filter((one) => !has.has(one))) {
      const { status, headers, text } = await send({ method, path })
      expect(status).toBe(405)
      const allowed = String(headers.allow).split(', ')
      expect(allowed).toEqual(expect.arrayContaining([...has]))
      expect(allowed).not.toContain(method)
      expect(JSON.parse(text)).toMatchObject({ code: 'method_not_allowed', detail: expect.stringContaining(method) })
    }
    const options = await send({ method: 'OPTIONS', path })
    expect([options.status, options.text]).toEqual([204, ''])
    expect(String(options.headers.allow).split(', ')).toEqual(expect.arrayContaining([...has]))
  })

  test.each(titled.filter(([, { method }]) => method === 'GET'))(
    'answers HEAD as %s, without a body, unless it is a stream',
    async (_, operation) => {
      const path = pathOf(operation)
      const [got, headed] = [await send({ method: 'GET', path }), await send({ method: 'HEAD', path })]
      expect([headed.status, headed.text]).toEqual([operation.streams ? 405 : got.status, ''])
      expect(headed.headers['content-type']).toBe(got.headers['content-type'])
    },
  )

  test.each(withBody)('refuses a body over the limit: %s', async (_, operation) => {
    const path = pathOf(operation)
    const big = `"${'x'.repeat(LIMIT)}"`
    const tooLarge = (text: string) => {
      expect(text).toMatch(/^HTTP\/1.1 413 /)
      expect(text).toContain('"code":"body_too_large"')
      expect(text).toContain(`${LIMIT} bytes`)
    }
    const done = /body_too_large"\}/
    tooLarge(await exchange(`${head(operation, path, `Content-Length: ${big.length}`)}\r\n\r\n${big}`, done))
    // Said before it is sent: nothing of it is waited for.
    tooLarge(await exchange(`${head(operation, path, 'Content-Length: 99999999999')}\r\n\r\n`, done))
    const chunk = `${(50_000).toString(16)}\r\n${' '.repeat(50_000)}\r\n`
    tooLarge(await exchange(`${head(operation, path, 'Transfer-Encoding: chunked')}\r\n\r\n${chunk.repeat(3)}`, done))
  })

  test.each(withBody)('is not fooled by a length that lies: %s', async (_, operation) => {
    const path = pathOf(operation)
    const body = '{"zz": 1}'
    const short = await exchange(`${head(operation, path, 'Content-Length: 4')}\r\n\r\n${body}`, /HTTP/)
    expect(short).toMatch(/^HTTP\/1.1 400 /)
    const both = `Content-Length: ${body.length}\r\nTransfer-Encoding: chunked`
    expect(await exchange(`${head(operation, path, both)}\r\n\r\n${body}`, /HTTP/)).toMatch(/^HTTP\/1.1 400 /)
    const twice = `Content-Length: 4\r\nContent-Length: ${body.length}`
    expect(await exchange(`${head(operation, path, twice)}\r\n\r\n${body}`, /HTTP/)).toMatch(/^HTTP\/1.1 400 /)
    const { socket, closed } = await openSocket(url)
    socket.end(`${head(operation, path, 'Content-Length: 100')}\r\n\r\n${body}`)
    await closed
  })
})

describe('what is no HTTP', () => {
  test.each([
    ['a target without a slash', 'GET \\info HTTP/1.1\r\nHost: h\r\n\r\n'],
    ['a backslash in the target', 'GET /\\info HTTP/1.1\r\nHost: h\r\n\r\n'],
    ['a host that is none', 'GET /info HTTP/1.1\r\nHost: a b\r\n\r\n'],
    ['no host', 'GET /info HTTP/1.1\r\n\r\n'],
    ['a control character in a header', 'GET /info HTTP/1.1\r\nHost: h\r\nX-A: a\x00b\r\n\r\n'],
    ['a space before the colon', 'GET /info HTTP/1.1\r\nHost: h\r\nX-A : b\r\n\r\n'],
    ['another protocol', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
    ['headers without end', `GET /info HTTP/1.1\r\nHost: h\r\nX-A: ${'a'.repeat(100_000)}\r\n\r\n`],
  ])('is refused and harms nobody: %s', async (_, text) => {
    expect(await exchange(text, /\r\n\r\n/)).toMatch(/^HTTP\/1.1 4(00|31) /)
    expect((await send({ method: 'GET', path: '/ok' })).text).toBe('{"ok":true}')
  })

  test('headers of a client do not become headers of the answer', async () => {
    const { headers } = await send({ method: 'GET', path: '/ok', headers: { 'x-request-id': 'a, b', origin: 'x' } })
    expect(headers['x-request-id']).toMatch(/^[\da-f-]{36}$/)
    expect(headers['access-control-allow-origin']).toBe('*')
  })
})

describe('what takes its time', () => {
  test.concurrent('a client that never ends its headers is hung up on within 25 s, and others are served', async () => {
    const sockets = await Promise.all(Array.from({ length: 50 }, () => openSocket(url)))
    for (const { socket } of sockets) socket.write('POST /runs HTTP/1.1\r\nHost: h\r\nX-A: ')
    const drip = setInterval(() => sockets.forEach(({ socket }) => void (socket.writable && socket.write('a'))), 1_000)
    const started = performance.now()
    expect((await send({ method: 'GET', path: '/ok' })).status).toBe(200)
    expect(performance.now() - started).toBeLessThan(1_000)
    await Promise.all(sockets.map(({ closed }) => closed))
    clearInterval(drip)
    expect(performance.now() - started).toBeLessThan(25_000)
    expect(sockets[0]?.received()).toMatch(/^HTTP\/1.1 408 /)
  })

  const post = (path: string, gate: string) => {
    const body = JSON.stringify({ assistant_id: 'held', input: { gate } })
    return `POST ${path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  }
  const bodyOf = (received: string) => received.slice(received.indexOf('\r\n\r\n') + 4)

  test.concurrent('an answer has its headers at once, and a sign of life every five seconds', async () => {
    const { thread_id } = await server.client.threads.create()
    const { run_id } = await server.client.runs.create(thread_id, 'held', { input: { gate: 'slow' } })
    const join = `/threads/${thread_id}/runs/${run_id}`
    const asked = {
      stream: post('/runs/stream', 'slow'),
      wait: post('/runs/wait', 'slow'),
      join: `GET ${join}/join HTTP/1.1\r\nHost: h\r\n\r\n`,
      'join stream': `GET ${join}/stream HTTP/1.1\r\nHost: h\r\n\r\n`,
      'thread stream': `GET /threads/${thread_id}/stream HTTP/1.1\r\nHost: h\r\n\r\n`,
    }
    const open = await Promise.all(
      Object.entries(asked).map(async ([name, text]) => {
        const connection = await openSocket(url)
        connection.socket.write(text)
        return { name, ...connection }
      }),
    )
    const streamed = (name: string) => name.includes('stream')
    await until('all have their headers', () => open.every(({ received }) => received().includes('\r\n\r\n')), 3_000)
    for (const { name, received } of open) {
      expect(received(), name).toMatch(/^HTTP\/1.1 200 /)
      expect(received(), name).toContain(streamed(name) ? 'text/event-stream' : 'application/json')
      expect(received(), name).toMatch(/cache-control: no-store/i)
    }
    await gates.reached('slow', 3)
    const beat = (name: string) => (streamed(name) ? /: heartbeat\n\n/ : /\r\n1\r\n\n/)
    await until('all have a heartbeat', () => open.every(({ name, received }) => beat(name).test(received())), 8_000)
    gates.open('slow')
    const ended = open.filter(({ name }) => name !== 'thread stream')
    await until('all but one have ended', () => ended.every(({ received }) => received().endsWith('0\r\n\r\n')), 5_000)
    for (const { name, socket, received } of open) {
      socket.destroy()
      expect(bodyOf(received()), name).toContain('passed slow')
      if (name === 'stream') expect(bodyOf(received())).toContain('event: end\ndata: null\n\n')
    }
  })
})
