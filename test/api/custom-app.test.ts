// The custom app in front of the server: whose answer a request gets, what goes through unharmed, and what the app can break. The
// app is a real one in a process of its own, and the requests come over sockets.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Client } from '@langchain/langgraph-sdk'
import { beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { customApp } from '../support/apps/options.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { openSocket } from '../support/raw.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

eachStack(
  (stack) => {
    const { graphs, gates } = createRunGraphs()
    let server: TestServer
    let url = ''
    beforeAll(async () => {
      const config = { executorStallSeconds: 1, bodyLimitBytes: 100_000 }
      server = await stack.heddle({ graphs, ...customApp, config })
      url = (await server.heddle.listen()).url
    })
    const get = (path: string, init: RequestInit = {}) => fetch(url + path, init)
    const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
      fetch(url + path, {
        method: 'POST',
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json', ...headers },
      })
    const json = async (response: Promise<Response>) => (await response).json() as Promise<Record<string, unknown>>
    const pid = async () => (await json(get('/pid'))).pid as number
    const thread = async () => (await json(post('/threads', {}))).thread_id as string
    const appeared = (kind: string) => server.seen.filter((one) => one.kind === kind)

    test('a route of the app wins over a built-in one, and what it has no route for is built in', async () => {
      expect(await json(get('/info'))).toEqual({ mine: true })
      expect(await json(get('/ok'))).toEqual({ ok: true })
      expect(await json(get('/nothing'))).toMatchObject({ code: 'not_found' })
      // Of a method that the app has not, too.
      expect((await get('/info', { method: 'POST' })).status).toBe(405)
      expect(server.heddle.app()).toEqual({ name: 'apps/custom.ts:app' })
      expect(appeared('app_loaded')).toMatchObject([{ app: 'apps/custom.ts:app', routes: expect.any(Number) }])
    })

    test('what has neither route nor middleware there does not wait for an app that stands still', async () => {
      const still = await pid()
      process.kill(still, 'SIGSTOP')
      try {
        expect(await json(get('/ok'))).toEqual({ ok: true })
        expect((await post('/runs/wait', { assistant_id: 'steps', input: { log: [] } })).status).toBe(200)
      } finally {
        process.kill(still, 'SIGCONT')
      }
      expect(await pid()).toBe(still)
    })

    test('middleware wraps a built-in route: it sees the request, its id and its answer, and changes it', async () => {
      const id = await thread()
      const response = await get(`/threads/${id}`, { headers: { 'x-request-id': 'mine-1' } })
      expect(await response.json()).toMatchObject({ thread_id: id, status: 'idle' })
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'x-after': '200 application/json',
        'x-before': 'mine-1',
        'x-request-id': 'mine-1',
        'x-content-type-options': 'nosniff',
        'access-control-allow-origin': '*',
      })
      expect(appeared('request_done').filter((one) => 'request_id' in one && one.request_id === 'mine-1')).toEqual([
        expect.objectContaining({ method: 'GET', path: `/threads/${id}`, status: 200 }),
      ])
      expect(await json(post('/assistants/count', { metadata: { a: 'ü' } }))).toEqual({
        count: 0,
        metadata: { a: 'ü' },
      })
      const unknown = await get('/threads/01a20000-0000-7000-8000-000000000000')
      expect([unknown.status, unknown.headers.get('x-after')]).toEqual([404, '404 application/json'])
    })

    test('middleware that refuses, or says "not found", keeps the server from acting', async () => {
      const id = await thread()
      const run = { assistant_id: 'steps', input: { log: [] } }
      expect((await post(`/threads/${id}/runs`, run, { 'x-deny': 'refused' })).status).toBe(403)
      expect((await post(`/threads/${id}/runs`, run, { 'x-deny': 'hidden' })).status).toBe(404)
      // However the path is written.
      expect((await post(`/%74hreads/${id}/runs`, run, { 'x-deny': 'refused' })).status).toBe(403)
      expect((await get(`/threads/${id}`, { method: 'HEAD', headers: { 'x-deny': 'refused' } })).status).toBe(403)
      expect(await json(get(`/threads/${id}/runs`))).toEqual([])
    })

    test('what goes through middleware is what the client sent: every method with its body, and no header more', async () => {
      const item = { namespace: ['a'], key: 'k', value: { b: 1 } }
      const asJson = { 'content-type': 'application/json' }
      const send = (method: string, path: string, body?: object) =>
        get(path, { method, ...(body && { body: JSON.stringify(body), headers: asJson }) })
      expect((await send('PUT', '/store/items', item)).status).toBe(204)
      expect(await json(get('/store/items?namespace=a&key=k'))).toMatchObject({ value: { b: 1 } })
      expect((await send('DELETE', '/store/items', { namespace: ['a'], key: 'k' })).status).toBe(204)
      expect(await json(get('/store/items?namespace=a&key=k'))).toBeNull()
      const id = await thread()
      expect(await json(send('PATCH', `/threads/${id}`, { metadata: { a: 1 } }))).toMatchObject({ metadata: { a: 1 } })
      expect((await send('OPTIONS', `/threads/${id}`)).headers.get('allow')).toBe('GET, HEAD, PATCH, DELETE, OPTIONS')
      const asked = { assistant_id: 'report', input: { ask: 'x' } }
      const { seen } = (await json(post(`/threads/${id}/runs/wait`, asked, { 'x-user': 'ann' }))) as {
        seen: { configurable: Record<string, unknown> }
      }
      // Headers that begin with x- become the config of a run.
      expect(Object.keys(seen.configurable).filter((key) => key.includes('-'))).toEqual(['user-agent', 'x-user'])
      expect((await send('DELETE', `/threads/${id}`)).status).toBe(200)
      expect((await get(`/threads/${id}`)).status).toBe(404)
    })

    test('a stream of events goes through middleware as it comes, and resumes', async () => {
      const id = await thread()
      const input = { log: [], hold: { second: `sse ${id}` } }
      const response = await post(`/threads/${id}/runs/stream`, {
        assistant_id: 'steps',
        input,
        stream_mode: 'updates',
      })
      expect(response.headers.get('x-after')).toBe('200 text/event-stream')
      expect(response.headers.get('location')).toMatch(/^\/threads\/.*\/stream$/)
      const events = readEvents(response)
      const first = await events.upTo(({ event }) => event === 'updates')
      expect(first.at(-1)?.data).toEqual({ first: { log: ['first'] } })
      gates.open(`sse ${id}`)
      const rest = await events.rest()
      expect(rest.map(({ event }) => event)).toEqual(['updates', 'updates', 'end'])
      const again = await get(String(response.headers.get('location')), { headers: { 'last-event-id': '-1' } })
      expect(await readEvents(again).rest()).toEqual([...first, ...rest])
    })

    test('who leaves a stream that went through the app leaves the run, which is cancelled if it was to be', async () => {
      const id = await thread()
      const input = { log: [], hold: { second: `leave ${id}` } }
      const asked = { assistant_id: 'steps', input, stream_mode: 'updates', on_disconnect: 'cancel' }
      const leaving = new AbortController()
      const response = await fetch(`${url}/threads/${id}/runs/stream`, {
        method: 'POST',
        body: JSON.stringify(asked),
        headers: { 'content-type': 'application/json' },
        signal: leaving.signal,
      })
      await readEvents(response).upTo(({ event }) => event === 'updates')
      leaving.abort()
      await until('the run is cancelled', async () => {
        const [run] = (await (await get(`/threads/${id}/runs`)).json()) as { status: string }[]
        return run?.status === 'interrupted'
      })
    })

    test('bodies are streamed both ways, byte for byte', async () => {
      const sent = randomBytes(90_000)
      const response = await get('/echo', { method: 'POST', body: sent })
      expect(Buffer.compare(Buffer.from(await response.arrayBuffer()), sent)).toBe(0)
      // The answer begins before the question has ended.
      const { socket, received } = await openSocket(url)
      socket.write('POST /echo HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n')
      await until('the first part came back', () => received().includes('one'))
      socket.write('3\r\ntwo\r\n0\r\n\r\n')
      await until('the rest came back', () => received().includes('two') && received().endsWith('0\r\n\r\n'))
      socket.destroy()
      const reader = (await get('/wait/both')).body?.pipeThrough(new TextDecoderStream()).getReader()
      expect((await reader?.read())?.value).toBe('begun\n')
      await post('/go/both', {})
      expect((await reader?.read())?.value).toBe('ended\n')
    })

    test('the app is told that a client has gone, before it has answered and while it does', async () => {
      const told = async (path: string) => (await (await get(path)).json()) as string[]
      const leaving = new AbortController()
      const response = await get('/wait/reader', { signal: leaving.signal })
      await response.body?.getReader().read()
      const silent = get('/silent/asker', { signal: leaving.signal }).catch((error: Error) => error.name)
      await until('it is asked', async () => (await told('/waiting')).includes('asker'))
      leaving.abort()
      expect(await silent).toBe('AbortError')
      await until('the app knows', async () => (await told('/left')).length >= 2)
      // Who read to the end did not leave.
      expect((await told('/left')).toSorted()).toEqual(['asker', 'reader'])
    })

    test('a body over the limit is refused, whether its length was said or not', async () => {
      const refusal = { code: 'body_too_large', detail: expect.stringContaining('100000 bytes') }
      const large = 'x'.repeat(100_001)
      const said = await get('/length', { method: 'POST', body: large })
      expect([said.status, await said.json()]).toEqual([413, refusal])
      const body = new Blob([large]).stream()
      const unsaid = await get('/length', { method: 'POST', body, duplex: 'half' } as RequestInit)
      expect([unsaid.status, await unsaid.json()]).toEqual([413, refusal])
      expect(await (await get('/length', { method: 'POST', body: 'x'.repeat(100_000) })).json()).toBe(100_000)
      expect((await get('/early', { method: 'POST', body: 'x'.repeat(100_000) })).status).toBe(401)
    })

    test('headers: nothing of the connection goes on, and nothing comes back twice', async () => {
      const { socket, received } = await openSocket(url)
      socket.write(
        'GET /headers?a=%20 HTTP/1.1\r\nhost: my.test:8\r\nconnection: close, x-mine\r\nx-mine: 1\r\nkeep-alive: 5\r\nte: trailers\r\n' +
          'heddle-relay: forged\r\nx-forwarded-for: 9.9.9.9\r\ncookie: a=1\r\nx-kept: yes\r\n\r\n',
      )
      await until('it is answered', () => received().endsWith('0\r\n\r\n'))
      socket.destroy()
      const [head = '', body = ''] = received().split('\r\n\r\n')
      const told = JSON.parse(body.split('\r\n')[1] ?? '') as { url: string; headers: Record<string, string> }
      expect(told).toEqual({
        url: 'http://my.test:8/headers?a=%20',
        headers: {
          ...{ host: 'my.test:8', cookie: 'a=1', 'x-kept': 'yes' },
          ...{ 'x-forwarded-for': '9.9.9.9, 127.0.0.1', 'x-request-id': expect.stringMatching(/^[\w-]{36}$/) },
        },
      })
      const names = head.split('\r\n').slice(1)
      const values = (name: string) => names.filter((line) => line.toLowerCase().startsWith(`${name}: `))
      expect(values('set-cookie').map((line) => line.slice(12))).toEqual(['a=1', 'b=2'])
      expect(values('access-control-allow-origin')).toEqual(['access-control-allow-origin: *'])
      for (const name of ['x-request-id', 'x-content-type-options', 'date', 'vary'])
        expect(values(name)).toHaveLength(1)
    })

    test('what the app throws is its own answer, and what it leaves unhandled costs nobody anything', async () => {
      const before = await pid()
      expect((await get('/throw')).status).toBe(500)
      expect(await (await get('/reject')).text()).toBe('went on')
      await until('both are said', () => {
        const said = JSON.stringify(appeared('app_output'))
        return said.includes('thrown by the app') && said.includes('Unhandled rejection: Error: nobody waits for this')
      })
      expect(await pid()).toBe(before)
    })

    test('the JavaScript client finds the server from within the app, without an address', async () => {
      expect(await json(get('/run'))).toMatchObject({ log: ['first', 'second', 'third'] })
    })

    test('a WebSocket of the server goes through middleware; one of the app is refused', async () => {
      const id = await thread()
      const open = async (path: string, headers: Record<string, string> = {}) => {
        const socket = new WebSocket(url.replace('http', 'ws') + path, { headers })
        const closed = once(socket, 'close').then(([code, reason]) => `${code} ${reason}`)
        await once(socket, 'open')
        return { socket, closed }
      }
      const path = `/threads/${id}/stream/events`
      const { socket, closed } = await open(path)
      socket.send(JSON.stringify({ id: 1, method: 'subscription.subscribe', params: { channels: ['values'] } }))
      const [answer] = await once(socket, 'message')
      expect(JSON.parse(String(answer))).toMatchObject({ id: 1, type: 'success' })
      socket.close(1000)
      expect(await closed).toMatch(/^1000/)
      expect(await (await open(path, { 'x-deny': 'refused' })).closed).toBe('4403 The app does not want this.')
      expect(await (await open(path, { 'x-deny': 'late' })).closed).toBe('4403 The app does not want this any more.')
      expect(await (await open('/info')).closed).toMatch(/^4422 The custom app cannot serve WebSockets here/)
      expect(await (await open('/nothing')).closed).toMatch(/^4404/)
    })

    test('requests without a socket, as programs make them that embed the server, take the same way', async () => {
      expect(await (await server.request('GET', '/info')).json()).toEqual({ mine: true })
      const id = await thread()
      const response = await server.request('GET', `/threads/${id}`)
      expect([response.headers.get('x-after'), (await response.json()) as object]).toEqual([
        '200 application/json',
        expect.objectContaining({ thread_id: id }),
      ])
      expect(await (await server.request('POST', '/echo', 'word')).text()).toBe('word')
      expect((await server.request('POST', '/length', 'x'.repeat(100_001))).status).toBe(413)
    })

    test('a process that ends is said to whom it did not answer, started anew, and no run notices', async () => {
      const id = await thread()
      const client = new Client({ apiUrl: url, apiKey: null })
      const run = await client.runs.create(id, 'steps', { input: { log: [], hold: { second: `exit ${id}` } } })
      const before = await pid()
      const response = await get('/exit')
      expect([response.status, await response.json()]).toEqual([
        502,
        {
          code: 'app_failed',
          detail: 'The custom app apps/custom.ts:app ended before it answered: called process.exit(7).',
        },
      ])
      // Who comes meanwhile waits for the next one.
      expect(await pid()).not.toBe(before)
      gates.open(`exit ${id}`)
      await client.runs.join(id, run.run_id)
      expect(await client.runs.get(id, run.run_id)).toMatchObject({ status: 'success' })
      expect(appeared('app_exited')).toMatchObject([{ pid: before, cause: 'called process.exit(7)' }])
    })

    test('a loop without end is ended and named, while what is built in goes on', async () => {
      const looping = get('/loop')
      expect(await json(get('/ok'))).toEqual({ ok: true })
      const response = await looping
      expect([response.status, await response.json()]).toEqual([
        502,
        {
          code: 'app_failed',
          detail: expect.stringMatching(
            /ended before it answered: blocked its event loop for \d+ s in spin \(custom\.ts\)\.$/,
          ),
        },
      ])
      expect(await pid()).toBeGreaterThan(0)
      expect(appeared('runs_rescued')).toEqual([])
    })

    test('closing does not wait for what the app passed on, when nothing will come of it', async () => {
      const other = await stack.heddle({ graphs, ...customApp, config: { shutdownGraceSeconds: 3_600 } })
      const { url: at } = await other.heddle.listen()
      const { thread_id } = await other.client.threads.create()
      const body = JSON.stringify({ assistant_id: 'steps', input: { log: [] }, after_seconds: 3_600 })
      const headers = { 'content-type': 'application/json' }
      const waiting = await fetch(`${at}/threads/${thread_id}/runs/wait`, { method: 'POST', body, headers })
      expect(waiting.headers.get('x-after')).toBe('200 application/json')
      await other.heddle.close()
      await expect(waiting.text()).rejects.toThrow()
      expect(other.seen.filter(({ kind }) => kind === 'app_output')).toEqual([])
    })

    test('closing waits for what the app answers itself', async () => {
      const other = await stack.heddle({ graphs, ...customApp, config: { shutdownGraceSeconds: 30 } })
      const { url: at } = await other.heddle.listen()
      const reader = (await fetch(`${at}/wait/close`)).body?.pipeThrough(new TextDecoderStream()).getReader()
      await reader?.read()
      const closing = other.heddle.close()
      await until('it closes', () => other.seen.some(({ kind }) => kind === 'server_closing'))
      expect((await fetch(`${at}/ok`)).status).toBe(503)
      await fetch(`${at}/go/close`, { method: 'POST' })
      expect((await reader?.read())?.value).toBe('ended\n')
      expect((await reader?.read())?.done).toBe(true)
      await closing
    })
  },
  { only: ['embedded'] },
)
