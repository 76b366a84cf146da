// A custom app as a user would write it, for tests of what reaches it and of what it can break.

import { setTimeout as delay } from 'node:timers/promises'
import { Client } from '@langchain/langgraph-sdk'
import { type Context, Hono } from 'hono'

export const app = new Hono()

/** What came to `/hooks/…`, by path. */
const hooks = new Map<string, { headers: Record<string, string>; text: string }[]>()
/** Requests that wait, by name, and what became of them. */
const waiting = new Map<string, () => void>()
const left: string[] = []

app.use('/threads/*', async (c, next) => {
  if (c.req.header('x-deny') === 'hidden') return c.notFound()
  if (c.req.header('x-deny') === 'refused') return c.json({ detail: 'The app does not want this.' }, 403)
  c.header('x-before', c.req.header('x-request-id'))
  await next()
  if (c.req.header('x-deny') === 'late') c.res = c.json({ detail: 'The app does not want this any more.' }, 403)
  c.res.headers.set('x-after', `${c.res.status} ${c.res.headers.get('content-type')}`)
  return undefined
})
app.use('/store/*', (_, next) => next())
// Reads the body before the server does, and exchanges its answer.
app.use('/assistants/count', async (c, next) => {
  const { metadata } = await c.req.json<{ metadata?: object }>()
  await next()
  c.res = c.json({ count: await c.res.json(), metadata })
})
app.get('/info', (c) => c.json({ mine: true }))
app.get('/pid', (c) => c.json({ pid: process.pid, database: process.env.DATABASE_URI ?? null }))
app.get('/headers', (c) => {
  c.header('set-cookie', 'a=1')
  c.header('set-cookie', 'b=2', { append: true })
  c.header('vary', 'accept')
  c.header('access-control-allow-origin', 'https://elsewhere.example')
  return c.json({ url: c.req.url, headers: c.req.header() })
})
app.post('/echo', (c) => new Response(c.req.raw.body))
app.post('/length', async (c) => c.json((await c.req.arrayBuffer()).byteLength))
app.post('/early', (c) => c.text('no', 401))
/** Says `begun`, and `ended` once it was let go. */
app.get('/wait/:name', (c) => {
  const name = c.req.param('name')
  const encoder = new TextEncoder()
  c.req.raw.signal.addEventListener('abort', () => left.push(name))
  return c.body(
    new ReadableStream({
      start(controller) {
        controller.enqueue(encoder.encode('begun\n'))
        waiting.set(name, () => {
          controller.enqueue(encoder.encode('ended\n'))
          controller.close()
        })
      },
    }),
  )
})
/** Never answers. */
app.get('/silent/:name', (c) => {
  c.req.raw.signal.addEventListener('abort', () => left.push(c.req.param('name')))
  waiting.set(c.req.param('name'), () => {})
  return new Promise<Response>(() => {})
})
app.get('/waiting', (c) => c.json([...waiting.keys()]))
app.post('/go/:name', (c) => {
  waiting.get(c.req.param('name'))?.()
  return c.body(null, 204)
})
app.get('/left', (c) => c.json(left))
app.get('/run', async (c) => c.json(await new Client().runs.wait(null, 'steps', { input: { log: [] } })))
app.get('/throw', () => {
  throw new Error('thrown by the app')
})
app.get('/reject', async (c) => {
  void Promise.reject(new Error('nobody waits for this'))
  await delay(1)
  return c.text('went on')
})
app.get('/exit', () => process.exit(7))
app.get('/loop', function spin(): never {
  for (;;);
})
app.post('/hooks/:kind/:id', async (c: Context) => {
  const kept = hooks.get(c.req.path) ?? []
  hooks.set(c.req.path, kept)
  kept.push({ headers: c.req.header(), text: await c.req.text() })
  if (c.req.param('kind') === 'exit') process.exit(1)
  return c.body(null, c.req.param('kind') === 'flaky' && kept.length === 1 ? 503 : 204)
})
app.get('/hooks/:kind/:id', (c) => c.json(hooks.get(c.req.path) ?? []))
