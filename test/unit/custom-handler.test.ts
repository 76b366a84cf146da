// The custom app as a function: what of a Hono app, or of anything else with `fetch`, goes on to the server.

import { Hono } from 'hono'
import { afterEach, expect, test, vi } from 'vitest'
import { createHandler, type Unanswered } from '../../src/executor/custom-handler.ts'

afterEach(() => void vi.restoreAllMocks())

/** The server, as far as the app can tell: it says what it was asked. */
const server = async ({ request, body }: Unanswered): Promise<Response> =>
  new Response(`server: ${request.method} ${new URL(request.url).pathname} ${await new Response(body).text()}`.trim(), {
    status: 203,
    headers: { 'x-server': 'yes' },
  })
const mounted = (app: unknown) => {
  const handler = createHandler(app, server)
  return async (path: string, init: RequestInit = {}): Promise<[number, string]> => {
    const response = await handler.fetch(new Request(`http://a.test${path}`, init))
    return [response.status, await response.text()]
  }
}
const post = (body: string): RequestInit => ({ method: 'POST', body })

test('routes of the app answer, and what has none goes on to the server', async () => {
  const app = new Hono().get('/mine', (c) => c.text('mine'))
  expect(createHandler(new Hono().route('/', app), server).routes).toEqual([{ method: 'GET', path: '/mine' }])
  const ask = mounted(app)
  expect(await ask('/mine')).toEqual([200, 'mine'])
  expect(await ask('/threads', post('{"a":1}'))).toEqual([203, 'server: POST /threads {"a":1}'])
})

test('middleware sees the answer of the server, and may change it', async () => {
  const app = new Hono().use('/threads/*', async (c, next) => {
    await next()
    c.header('x-seen', `${c.res.status} ${c.res.headers.get('x-server')}`)
  })
  const response = await createHandler(app, server).fetch(new Request('http://a.test/threads/1'))
  expect([response.headers.get('x-seen'), await response.text()]).toEqual(['203 yes', 'server: GET /threads/1'])
})

test('a middleware that says "not found" is an answer: the server is not asked behind its back', async () => {
  const app = new Hono().use('/threads/*', (c) => Promise.resolve(c.notFound()))
  const ask = mounted(app)
  expect(await ask('/threads/1')).toEqual([404, '404 Not Found'])
  const own = new Hono().use('/threads/*', (c) => Promise.resolve(c.notFound()))
  own.notFound((c) => c.text('nothing here', 404))
  const askOwn = mounted(own)
  expect(await askOwn('/threads/1')).toEqual([404, 'nothing here'])
})

test('what middleware has read of the body goes on whole', async () => {
  const app = new Hono()
  app.use('/json/*', async (c, next) => {
    await c.req.json()
    await next()
  })
  app.use('/text/*', async (c, next) => {
    await c.req.text()
    await next()
  })
  app.use('/raw/*', async (c, next) => {
    await c.req.raw.text()
    await next()
  })
  app.onError((error, c) => c.text(error.message, 500))
  const ask = mounted(app)
  expect(await ask('/json/x', post('{"a": "ü"}'))).toEqual([203, 'server: POST /json/x {"a": "ü"}'])
  expect(await ask('/text/x', post('as it was'))).toEqual([203, 'server: POST /text/x as it was'])
  expect(await ask('/raw/x', post('gone'))).toEqual([500, expect.stringContaining('read it with c.req.json()')])
})

test('a request that middleware has exchanged goes on as it is then', async () => {
  const app = new Hono().use('*', async (c, next) => {
    c.req.raw = new Request(c.req.raw, { headers: { 'x-user': 'ada' } })
    await next()
  })
  const seen = vi.fn(server)
  await createHandler(app, seen).fetch(new Request('http://a.test/threads', post('{}')))
  expect(seen.mock.calls[0]?.[0].request.headers.get('x-user')).toBe('ada')
})

test('an app under a base path, with its own handlers of errors, is what it is alone', async () => {
  const root = new Hono().use('*', async (c, next) => {
    await next()
    c.header('x-root', 'yes')
  })
  const api = root.basePath('/api').get('/x', () => {
    throw new Error('broken')
  })
  api.onError((error, c) => c.text(`handled: ${error.message}`, 418))
  const ask = mounted(api)
  expect(await ask('/api/x')).toEqual([418, 'handled: broken'])
  expect(await ask('/ok')).toEqual([203, 'server: GET /ok'])
})

test('an app that was asked while its file was loading cannot be mounted any more', async () => {
  const app = new Hono().get('/x', (c) => c.text('x'))
  await app.request('/x')
  expect(() => createHandler(app, server)).toThrow('was already asked while it was loaded')
})

test.each([
  ['takes paths without their last slash', new Hono({ strict: false })],
  [
    'looks at hosts',
    new Hono({ getPath: (request) => `/${new URL(request.url).host}${new URL(request.url).pathname}` }),
  ],
])('an app that %s gets every request, since its table does not say which are its own', (_, app) => {
  expect(
    createHandler(
      app.get('/x', (c) => c.text('x')),
      server,
    ).routes,
  ).toBeNull()
})

test('an app of another kind gets every request, and passes on what it returns nothing for', async () => {
  const app = { fetch: (request: Request) => (request.url.endsWith('/mine') ? new Response('mine') : undefined) }
  expect(createHandler(app, server).routes).toBeNull()
  const ask = mounted(app)
  expect(await ask('/mine')).toEqual([200, 'mine'])
  expect(await ask('/ok')).toEqual([203, 'server: GET /ok'])
  await expect(mounted({ fetch: () => ({ status: 200 }) })('/')).rejects.toThrow('did not return a Response')
  const reads = { fetch: (request: Request) => request.text().then(() => null) }
  const askReads = mounted(reads)
  await expect(askReads('/', post('x'))).rejects.toThrow('was already read')
})

test.each([[undefined], [null], ['app'], [{}], [() => {}]])('%j is no app', (value) => {
  expect(() => createHandler(value, server)).toThrow('is not an app: export a Hono app')
})
