// The HTTP application: routes in, `fetch` out. In charge of request ids, CORS, security headers, what happens on paths
// and methods that do not exist, and of handing a handler only what its contract let through.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Context, Hono } from 'hono'
import type { Endpoint } from '../contract/endpoint.ts'
import { explain, problemOf } from '../contract/problem.ts'
import { all } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import { readBody } from './body.ts'
import { createCors } from './cors.ts'
import type { HttpDeps } from './deps.ts'
import type { Own, Relay } from './relay.ts'
import { type Exchange, respond, respondError } from './respond.ts'
import type { Route } from './route.ts'
import { isServed } from './served.ts'

/** What the Node server passes along with a request. */
export interface NodeBindings {
  incoming?: IncomingMessage
  outgoing?: ServerResponse
  /** Given where the request asks for a WebSocket. */
  upgrade?: Exchange['upgrade']
  /** Given where the request is told of already, as one that went through the custom app. */
  requestId?: string | undefined
}

export interface Http {
  fetch(request: Request, node?: NodeBindings): Promise<Response>
  /** The same without the custom app. */
  own: Own
}

type Env = { Bindings: { exchange: Exchange; incoming: IncomingMessage | undefined } }

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const
const REQUEST_ID = /^[\w.:-]{1,128}$/

/** Makes the application of the routes; those that the configuration does not serve are left out. */
export function createHttp(
  deps: Pick<HttpDeps, 'config' | 'observe'> & {
    engine?: Pick<HttpDeps['engine'], 'hangingUp'>
    /** The way to the custom app, where there is one. */
    relay?: Relay | undefined
  },
  routes: readonly Route[],
): Http {
  const { config, observe, engine } = deps
  const cors = createCors(config.cors)
  const app = new Hono<Env>()

  // where two paths fit, the one without a parameter is meant
  const enabled = routes.filter(({ endpoint }) => isServed(endpoint, config))
  const ordered = enabled.toSorted((a, b) => (templateOf(a.endpoint.path) < templateOf(b.endpoint.path) ? -1 : 1))
  for (const route of ordered) {
    const path = route.endpoint.path.replaceAll(/\{(\w+)\}/g, ':$1')
    app.on(route.endpoint.method, path, (context) => serve(route, context, config.bodyLimitBytes))
  }
  // The address that the start-up lines print, opened in a browser.
  if (!config.disabled.includes('meta')) {
    app.get('/', ({ env: { exchange } }) =>
      respond(undefined, 302, { ...exchange, headers: { ...exchange.headers, location: '/docs' } }),
    )
  }
  const methodsOf = (path: string): string[] =>
    METHODS.filter((method) => app.router.match(method, path)[0].length > 0).flatMap((method) =>
      method === 'GET' ? ['GET', 'HEAD'] : [method],
    )
  app.notFound(({ req, env: { exchange } }) => {
    const allowed = methodsOf(req.path)
    if (allowed.length === 0) return respondError(new ApiError('not_found'), exchange)
    const headers = { allow: [...allowed, 'OPTIONS'].join(', ') }
    if (req.method === 'OPTIONS')
      return respond(undefined, 204, { ...exchange, headers: { ...exchange.headers, ...headers } })
    const detail = `${req.method} is not allowed on this path: use ${allowed.join(' or ')}.`
    return respondError(new ApiError('method_not_allowed', detail, { headers }), exchange)
  })
  app.onError((error, { env: { exchange } }) => respondError(error, exchange))

  // One for each status, because making one costs as much as answering.
  const marks = new Map<number, Response>()
  const sent = (status: number): Response => {
    const mark = marks.get(status) ?? new Response(null, { status, headers: { 'x-hono-already-sent': 'true' } })
    marks.set(status, mark)
    return mark
  }
  const begin = (request: Request, node: NodeBindings): Exchange => {
    const given = node.requestId ?? request.headers.get('x-request-id')
    const requestId = given !== null && REQUEST_ID.test(given) ? given : crypto.randomUUID()
    const { outgoing, upgrade } = node
    return {
      requestId,
      method: request.method,
      path: pathOf(request.url),
      headers: {
        'x-request-id': requestId,
        'x-content-type-options': 'nosniff',
        // A server that shuts down keeps no connection for a next request.
        ...(engine?.hangingUp() && { connection: 'close' }),
        ...cors.answer(config.cors.origins === '*' ? null : request.headers.get('origin')),
      },
      signal: once(() => (outgoing ? goneSignal(outgoing) : request.signal)),
      upgrade,
      cut: outgoing && (() => outgoing.destroy()),
      outgoing,
      sent,
      observe,
    }
  }

  const answer = (request: Request, exchange: Exchange, node: NodeBindings, relay: Relay | undefined) => {
    if (isPreflight(request)) return preflight(request, exchange, cors.preflight)
    if (climbs(node.incoming)) return respondError(new ApiError('not_found', NO_CLIMBING), exchange)
    if (!relay?.wants(request)) return app.fetch(request, { exchange, incoming: node.incoming })
    return relay.answer(request, exchange, node.incoming).catch((error: unknown) => respondError(error, exchange))
  }

  const handle = async (request: Request, node: NodeBindings, relay: Relay | undefined) => {
    const started = performance.now()
    const exchange = begin(request, node)
    const { method, path, requestId: request_id } = exchange
    const response = await answer(request, exchange, node, relay)
    const { status } = response
    if (node.requestId === undefined)
      observe({ kind: 'request_done', method, path, status, ms: performance.now() - started, request_id })
    return response
  }

  return {
    fetch: (request, node = {}) => handle(request, node, deps.relay),
    own: (request, node) => handle(request, node, undefined),
  }
}

/** Aborts when the connection closes before the answer is complete. The signal of the request would say the same, but to ask
 *  for it makes a whole Request of what Node has. */
function goneSignal(outgoing: ServerResponse): AbortSignal {
  const gone = new AbortController()
  const onClose = () => {
    if (!outgoing.writableFinished) gone.abort()
  }
  outgoing.once('close', onClose)
  if (outgoing.destroyed) onClose()
  return gone.signal
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

const NO_CLIMBING = 'A path must not have the segments . and ..: encode what is in it.'
const DOT_SEGMENT = /^[^?#]*\/(?:\.|%2e){1,2}(?:[/?#]|$)/i

/** Whether the path, as it was sent, would be another one once resolved: an id of `..` must not reach another route. */
const climbs = (incoming: IncomingMessage | undefined): boolean => DOT_SEGMENT.test(incoming?.url ?? '')

const templateOf = (path: string): string => path.replaceAll('{', '~')

const isPreflight = (request: Request): boolean =>
  request.method === 'OPTIONS' && request.headers.has('access-control-request-method')

function preflight(request: Request, exchange: Exchange, make: ReturnType<typeof createCors>['preflight']): Response {
  const { headers } = request
  const made = make(headers.get('origin'), headers.get('access-control-request-headers'))
  return new Response(null, { status: 204, headers: { ...exchange.headers, ...made } })
}

function pathOf(url: string): string {
  const start = url.indexOf('/', url.indexOf('//') + 2)
  const end = url.indexOf('?', start)
  return end < 0 ? url.slice(start) : url.slice(start, end)
}

async function serve(route: Route, context: Context<Env>, bodyLimitBytes: number): Promise<Response> {
  const { endpoint } = route
  const { exchange, incoming } = context.env
  const request = context.req.raw
  try {
    // To follow something only to say nothing of it would cost as much as a reader.
    if (request.method === 'HEAD' && (endpoint.reply === 'sse' || endpoint.reply === 'socket'))
      throw new ApiError('method_not_allowed', 'HEAD is not allowed on a stream: use GET.', {
        headers: { allow: 'GET, OPTIONS' },
      })
    if (request.url.includes('%00')) throw new ApiError('validation_failed', 'path: must not contain the NUL character')
    const params = endpoint.params && checked('path', endpoint.params, context.req.param())
    const query = endpoint.query && checked('query', endpoint.query, queryOf(request.url))
    let body: unknown
    let text = ''
    if (endpoint.body) {
      const { headers } = request
      const read = await readBody({ headers, body: () => request.body, incoming }, bodyLimitBytes)
      text = read.text
      const given = read.value === undefined && endpoint.bodyOptional ? {} : read.value
      body = endpoint.bodyUnjudged ? given : checked('body', endpoint.body, given)
    }
    const answer = await route.handle({
      params,
      query,
      body,
      text,
      visible: all,
      get signal() {
        return exchange.signal()
      },
      headers: request.headers,
      requestId: exchange.requestId,
    })
    return respond(answer, endpoint.status ?? (endpoint.reply === 'none' ? 204 : 200), exchange)
  } catch (error) {
    return respondError(error, exchange)
  }
}

function checked(part: 'path' | 'query' | 'body', schema: NonNullable<Endpoint['body']>, value: unknown): unknown {
  const result = schema.safeParse(value, { error: explain })
  if (result.success) return result.data
  const { code, detail } = problemOf(part, result.error)
  throw new ApiError(code, detail)
}

/** A query as the contract takes it: a string, or an array where a key is repeated. */
function queryOf(url: string): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = Object.create(null)
  const start = url.indexOf('?')
  if (start < 0) return query
  for (const [key, value] of new URLSearchParams(url.slice(start))) {
    const before = query[key]
    if (before === undefined) query[key] = value
    else if (Array.isArray(before)) before.push(value)
    else query[key] = [before, value]
  }
  return query
}
