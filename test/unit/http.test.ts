import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { defaultServerConfig } from '../../src/config.ts'
import * as assistants from '../../src/contract/assistants.ts'
import * as stateless from '../../src/contract/stateless-runs.ts'
import * as store from '../../src/contract/store.ts'
import * as runs from '../../src/contract/thread-runs.ts'
import * as threads from '../../src/contract/threads.ts'
import { ApiError } from '../../src/errors.ts'
import { createHttp } from '../../src/http/app.ts'
import { type Listening, listen } from '../../src/http/listen.ts'
import { empty, late, on, type Route, rawJson, reply, sse } from '../../src/http/route.ts'
import type { Observation } from '../../src/observe.ts'
import { until } from '../support/until.ts'

const THREAD = 'fe096781-5601-53d2-b2f6-0d3403f7e9ca'

describe('the HTTP application', () => {
  let observed: Observation[] = []
  let bodies: unknown[] = []
  let closed = 0
  let aborted = 0
  let finish = (_text: string) => {}
  let server: Listening

  const routes: Route[] = [
    on(threads.countThreads, ({ body }) => {
      bodies.push(body)
      return reply(1, { headers: { 'X-Pagination-Total': '1', 'x-left-out': undefined } })
    }),
    on(threads.getThread, ({ params }) => {
      if (params.thread_id === THREAD) throw new ApiError('thread_not_found', 'No such thread.')
      throw new Error('password=hunter2')
    }),
    on(threads.deleteThread, () => rawJson('{"raw": 1}', { status: 202 })),
    on(threads.patchThread, () => empty()),
    on(assistants.getAssistant, ({ params }) => {
      throw new ApiError('assistant_not_found', params.assistant_id)
    }),
    on(assistants.countAssistants, () => {
      throw new ApiError('database_unavailable')
    }),
    on(store.putItem, () => {}),
    on(stateless.waitStatelessRun, ({ signal }) => {
      signal.addEventListener('abort', () => aborted++)
      const text = new Promise<string>((resolve) => {
        finish = resolve
      })
      return late(() => text, { headers: { 'content-location': '/runs/x' } })
    }),
    on(runs.streamRun, () =>
      sse(async function* (signal) {
        try {
          for (let i = 0; ; i++) {
            yield { id: String(i), event: 'values', data: `"${'x'.repeat(1000)}"` }
            if (i === 99) await once(signal, 'abort')
          }
        } finally {
          closed++
        }
      }),
    ),
  ]

  beforeAll(async () => {
    const config = { ...defaultServerConfig, bodyLimitBytes: 2000 }
    server = await listen(createHttp({ config, observe: (each) => observed.push(each) }, routes), {
      host: '127.0.0.1',
      port: 0,
    })
  })
  afterAll(() => server.close(0))
  beforeEach(() => {
    observed = []
    bodies = []
    closed = 0
    aborted = 0
  })

  const ask = (path: string, init?: RequestInit) => fetch(`${server.url}${path}`, init)
  const post = (path: string, body: string, headers: Record<string, string> = {}) =>
    ask(path, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } })

  /** Sends bytes and gives everything that comes back until the server closes or `enough` is there. */
  async function raw(text: string, enough: (got: string) => boolean): Promise<string> {
    const socket = connect(server.port, '127.0.0.1')
    let got = ''
    socket.setEncoding('latin1').on('data', (part: string) => {
      got += part
      if (enough(got)) socket.destroy()
    })
    socket.on('error', () => {})
    socket.write(text)
    await once(socket, 'close')
    return got
  }

  it('answers with JSON and the headers that were given', async () => {
    const response = await post('/threads/count', '{}')
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('1')
    expect(response.headers.get('content-type')).toBe('application/json')
    expect(response.headers.get('x-pagination-total')).toBe('1')
    expect(response.headers.has('x-left-out')).toBe(false)
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
  })

  it('takes a missing body as empty only where the contract says so', async () => {
    expect((await ask('/threads/count', { method: 'POST' })).status).toBe(200)
    const put = await ask('/store/items', { method: 'PUT' })
    expect([put.status, await put.json()]).toEqual([422, { detail: 'body: is required', code: 'validation_failed' }])
  })

  it('sends printed JSON as it is, and nothing with 204', async () => {
    const deleted = await ask(`/threads/${THREAD}`, { method: 'DELETE' })
    expect([deleted.status, await deleted.text()]).toEqual([202, '{"raw": 1}'])
    const item = { method: 'PUT', body: '{"namespace":["a"],"key":"k","value":{}}' }
    const put = await ask('/store/items', { ...item, headers: { 'content-type': 'application/json' } })
    expect([put.status, await put.text(), put.headers.get('content-type')]).toEqual([204, '', null])
  })

  it('answers every failure with a sentence and a code, and hides what is not for the client', async () => {
    const known = await ask(`/threads/${THREAD}`)
    expect([known.status, await known.json()]).toEqual([404, { detail: 'No such thread.', code: 'thread_not_found' }])
    const unknown = await ask(`/threads/${THREAD.replace('f', 'a')}`)
    expect(unknown.status).toBe(500)
    const text = await unknown.text()
    expect(JSON.parse(text).code).toBe('internal')
    expect(text).not.toContain('hunter2')
    const failure = observed.find((each) => each.kind === 'request_failed')
    expect(failure).toMatchObject({ method: 'GET', request_id: unknown.headers.get('x-request-id') })
    expect((failure as { error: Error }).error.message).toBe('password=hunter2')
  })

  it('says when to try again where that can help', async () => {
    const response = await post('/assistants/count', '{}')
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
  })

  it('names the field and the reason of a bad request, wherever it is', async () => {
    const detail = async (response: Promise<Response>) => ((await (await response).json()) as { detail: string }).detail
    expect(await detail(ask('/threads/..%2Fassistants'))).toBe('path.thread_id: must be a UUID')
    expect(await detail(ask(`/threads/${THREAD}?include=all`))).toBe('query.include[0]: must be one of: ttl')
    expect(await detail(post('/threads/count', '{"status":1}'))).toMatch(/^body\.status: must be one of: idle, /)
    expect(await detail(ask(`/threads/${THREAD}?include=%00`))).toBe('path: must not contain the NUL character')
    expect(bodies).toEqual([])
  })

  it('decodes path ids once', async () => {
    const detail = async (id: string) => {
      const response = await ask(`/assistants/${id}`)
      return [response.status, ((await response.json()) as { detail: string }).detail]
    }
    expect(await detail('a%2Fb')).toEqual([404, 'a/b'])
    expect(await detail('a%252Fb')).toEqual([404, 'a%2Fb'])
    expect(await detail('%E4%BD%A0%7C%3A')).toEqual([404, '你|:'])
    expect(await detail('100%25')).toEqual([404, '100%'])
  })

  it('knows paths from methods', async () => {
    const nowhere = await ask('/nowhere')
    expect([nowhere.status, (await nowhere.json()).code]).toEqual([404, 'not_found'])
    const wrong = await ask('/runs/wait', { method: 'PUT' })
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'POST, OPTIONS'])
    expect(await wrong.json()).toEqual({
      detail: 'PUT is not allowed on this path: use POST.',
      code: 'method_not_allowed',
    })
    const options = await ask(`/threads/${THREAD}`, { method: 'OPTIONS' })
    expect([options.status, options.headers.get('allow')]).toEqual([204, 'GET, HEAD, PATCH, DELETE, OPTIONS'])
    const head = await ask(`/threads/${THREAD}`, { method: 'HEAD' })
    expect([head.status, await head.text(), head.headers.get('content-type')]).toEqual([404, '', 'application/json'])
  })

  it('takes a request id that is well formed and makes one otherwise', async () => {
    const idFor = async (given?: string) => {
      const response = await ask('/nowhere', given === undefined ? {} : { headers: { 'x-request-id': given } })
      return response.headers.get('x-request-id')
    }
    expect(await idFor('abc-1.2:3')).toBe('abc-1.2:3')
    expect(await idFor('a b')).toMatch(/^[\da-f-]{36}$/)
    expect(await idFor('x'.repeat(200))).toMatch(/^[\da-f-]{36}$/)
    expect(await idFor()).not.toBe(await idFor())
    expect(observed[0]).toMatchObject({ kind: 'request_done', path: '/nowhere', status: 404, request_id: 'abc-1.2:3' })
  })

  it('lets browsers from anywhere in, errors included, without credentials', async () => {
    for (const path of ['/nowhere', '/threads/count']) {
      const { headers } = await post(path, '{', { origin: 'https://example.com' })
      expect(headers.get('access-control-allow-origin')).toBe('*')
      expect(headers.get('access-control-allow-credentials')).toBeNull()
      expect(headers.get('access-control-expose-headers')?.split(', ')).toEqual([
        'content-location',
        'location',
        'x-pagination-total',
        'x-pagination-next',
        'x-request-id',
      ])
    }
    const preflight = await ask('/threads/count', {
      method: 'OPTIONS',
      headers: {
        origin: 'https://example.com',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'x-api-key,content-type',
      },
    })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-headers')).toBe('x-api-key,content-type')
    expect(preflight.headers.get('access-control-allow-methods')).toContain('PATCH')
  })

  it('lets only listed origins in when there is a list', async () => {
    const cors = { ...defaultServerConfig.cors, origins: ['https://good.example'], credentials: true }
    const http = createHttp({ config: { ...defaultServerConfig, cors }, observe: () => {} }, routes)
    const from = async (origin: string) =>
      (await http.fetch(new Request('http://heddle/nowhere', { headers: { origin } }))).headers
    const good = await from('https://good.example')
    expect(good.get('access-control-allow-origin')).toBe('https://good.example')
    expect(good.get('access-control-allow-credentials')).toBe('true')
    const bad = await from('https://good.example.evil')
    expect([bad.get('access-control-allow-origin'), bad.get('vary')]).toEqual([null, 'Origin'])
  })

  it('refuses a body over the limit while it still comes, before any handler', async () => {
    const head = 'POST /threads/count HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n'
    const done = (got: string) => got.includes('body_too_large')
    const chunk = `${(1500).toString(16)}\r\n${' '.repeat(1500)}\r\n`
    expect(await raw(`${head}Transfer-Encoding: chunked\r\n\r\n${chunk}${chunk}`, done)).toMatch(/^HTTP\/1.1 413 /)
    expect(await raw(`${head}Content-Length: 100000\r\n\r\n{`, done)).toMatch(/^HTTP\/1.1 413 /)
    expect(bodies).toEqual([])
  })

  it('reads a body that comes in pieces', async () => {
    const head = 'POST /threads/count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n'
    const body = '{"metadata":{"a":"😀"}}'
    const pieces = [...Buffer.from(body)].map((byte) => `1\r\n${String.fromCharCode(byte)}\r\n`).join('')
    const socketText = Buffer.from(`${head}${pieces}0\r\n\r\n`, 'latin1')
    const socket = connect(server.port, '127.0.0.1')
    socket.write(socketText)
    await once(socket, 'data')
    socket.destroy()
    expect(bodies).toEqual([{ metadata: { a: '😀' } }])
  })

  it('sends the headers of a late answer before the answer', async () => {
    const response = await post('/runs/wait', '{"assistant_id":"a"}')
    expect([response.status, response.headers.get('content-location')]).toEqual([200, '/runs/x'])
    finish('{"done":true}')
    expect(await response.json()).toEqual({ done: true })
    expect(aborted).toBe(0)
  })

  it('tells the handler when the client of a late answer has gone', async () => {
    const client = new AbortController()
    const init = { method: 'POST', body: '{"assistant_id":"a"}', headers: { 'content-type': 'application/json' } }
    await ask('/runs/wait', { ...init, signal: client.signal })
    client.abort()
    await until('the handler knows', () => aborted === 1)
  })

  it('streams events, and closes their source when the client goes', async () => {
    const client = new AbortController()
    const init = { method: 'POST', body: '{"assistant_id":"a"}', headers: { 'content-type': 'application/json' } }
    const response = await ask(`/threads/${THREAD}/runs/stream`, { ...init, signal: client.signal })
    expect(response.headers.get('content-type')).toBe('text/event-stream')
    expect(response.headers.get('cache-control')).toBe('no-store')
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    let text = ''
    while (!text.includes('id: 99\n')) text += Buffer.from((await reader.read()).value ?? []).toString()
    expect(text.match(/^id: \d+$/gm)).toEqual(Array.from({ length: 100 }, (_, i) => `id: ${i}`))
    expect(closed).toBe(0)
    client.abort()
    await until('the source is closed', () => closed === 1)
  })

  it('answers a program that has no socket in the same way', async () => {
    const http = createHttp({ config: defaultServerConfig, observe: () => {} }, routes)
    const request = new Request('http://heddle/threads/count', { method: 'POST', body: '{"status":"idle"}' })
    const response = await http.fetch(request)
    expect([response.status, await response.text(), bodies]).toEqual([200, '1', [{ status: 'idle' }]])
  })
})

it('what a server that shuts down breaks off is no whole answer, also to clients that take the end of a connection for one', async () => {
  let stop = (_error: Error) => {}
  const text = new Promise<string>((_, reject) => {
    stop = reject
  })
  const routes = [on(stateless.waitStatelessRun, () => late(() => text))]
  const engine = { hangingUp: () => true }
  const closing = await listen(createHttp({ config: defaultServerConfig, observe: () => {}, engine }, routes), {
    host: '127.0.0.1',
    port: 0,
  })
  const asked = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"assistant_id": "a"}' }
  const response = await fetch(`${closing.url}/runs/wait`, asked)
  expect(response.status).toBe(200)
  stop(new ApiError('shutting_down'))
  await expect(response.text()).rejects.toThrow('terminated')
  await closing.close(0)
})
