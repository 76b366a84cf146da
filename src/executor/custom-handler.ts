// The custom app as a function. In charge of telling a Hono app from anything else with `fetch`, of its table of routes, and of
// what happens to requests that it does not answer; uses what the app itself brings, so no copy of Hono has to be at hand.

import type { AppRoute } from './custom-protocol.ts'
import { Refusal } from './exported.ts'

/** A request that the app did not answer, with its body as it may still be read. */
export interface Unanswered {
  request: Request
  body: ReadableStream<Uint8Array> | ArrayBuffer | null
}

export interface AppHandler {
  fetch(request: Request): Promise<Response>
  /** Null where the app gets every request. */
  routes: AppRoute[] | null
}

/** What is used of a Hono app and of its context. */
interface HonoApp {
  fetch(request: Request): Response | Promise<Response>
  routes: { method: string; path: string }[]
  router: { add(method: string, path: string, route: [handler: Last, about: object]): void }
  getPath(request: Request): string
}
type Last = (context: HonoContext) => Promise<Response>
interface HonoContext {
  req: { raw: Request; bodyCache: object; arrayBuffer(): Promise<ArrayBuffer> }
  newResponse(body: ReadableStream | null, init: { status: number; headers: Headers }): Response
}

/** Makes the function of what the app's file exports. `next` answers what the app does not. Throws `Refusal`. */
export function createHandler(app: unknown, next: (unanswered: Unanswered) => Promise<Response>): AppHandler {
  if (typeof app !== 'object' && typeof app !== 'function') throw notAnApp()
  if (app === null || typeof (app as { fetch?: unknown }).fetch !== 'function') throw notAnApp()
  if (isHono(app)) return ofHono(app, next)
  const plain = app as { fetch(request: Request): unknown }
  return {
    routes: null,
    async fetch(request) {
      const response = await plain.fetch(request)
      return response === undefined || response === null ? next(bodyOf(request)) : asResponse(response)
    },
  }
}

const notAnApp = () => new Refusal('is not an app: export a Hono app, or an object with fetch(request)')

const isHono = (app: object): app is HonoApp => {
  const { routes, getPath, router } = app as Record<string, unknown>
  if (!Array.isArray(routes) || typeof getPath !== 'function' || typeof router !== 'object' || router === null)
    return false
  return 'add' in router && 'match' in router
}

function ofHono(app: HonoApp, next: (unanswered: Unanswered) => Promise<Response>): AppHandler {
  const routes = isUsual(app) ? app.routes.map(({ method, path }) => ({ method, path })) : null
  const unanswered = async ({ req }: HonoContext): Promise<Unanswered> => {
    const { raw } = req
    if (!raw.bodyUsed) return bodyOf(raw)
    // Middleware has read it: the context remembers it, unless it was read past the context.
    if (Object.keys(req.bodyCache).length === 0) throw new Error(ALREADY_READ)
    return { request: raw, body: await req.arrayBuffer() }
  }
  const last: Last = async (context) => {
    const response = await next(await unanswered(context))
    // Made by the context, so that it has the headers that middleware has set already.
    return context.newResponse(response.body, response)
  }
  // A route like any other, behind them all: `notFound()` in a handler stays an answer. It stands in the router itself, where no
  // path is put before its own.
  try {
    app.router.add('ALL', '/*', [last, { basePath: '/', path: '/*', method: 'ALL', handler: last }])
  } catch (cause) {
    throw new Refusal('was already asked while it was loaded: take calls like app.request() out of its file', { cause })
  }
  return { routes, fetch: async (request) => asResponse(await app.fetch(request)) }
}

const ALREADY_READ =
  'The body of a request that goes on to the server was already read: read it with c.req.json() or c.req.text(), or clone the request'

function bodyOf(request: Request): Unanswered {
  if (request.bodyUsed) throw new Error(ALREADY_READ)
  return { request, body: request.body }
}

/** Whether the app finds its routes by the path as it is: otherwise the table does not say which requests are its own. */
const isUsual = (app: HonoApp): boolean =>
  ['/a/B', '/a/', '/'].every((path) => app.getPath(new Request(`http://a.test${path}`)) === path)

function asResponse(value: unknown): Response {
  if (value instanceof Response) return value
  throw new TypeError('The app did not return a Response')
}
