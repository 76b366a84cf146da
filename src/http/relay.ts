// The way of requests to the custom app and back. In charge of which requests are the app's, of relaying them with streams in both
// directions, and of the private socket over which the app passes on what it does not answer. What has no route or middleware
// there never leaves this process.

import { Agent, createServer, type IncomingMessage, request as send } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { ApiError } from '../errors.ts'
import type { AppInstance, CustomApp } from '../executor/custom.ts'
import { MAX_HEADER_BYTES, RELAY } from '../executor/custom-protocol.ts'
import { tooLarge } from './body.ts'
import { createMatcher, type Matcher } from './matcher.ts'
import { type Added, addedTo, answered, bodyOf, feed, headersTo, pathOf, takeBack } from './relayed.ts'
import type { Exchange } from './respond.ts'
import type { Socket } from './sockets.ts'

/** How the server itself answers what the app passes on. */
export type Own = (
  request: Request,
  node: {
    incoming: IncomingMessage
    outgoing: NonNullable<Exchange['outgoing']>
    upgrade: Exchange['upgrade']
    /** The id of the request that it belongs to, which is told of already. */
    requestId: string | undefined
  },
) => Promise<Response>

export interface Relay {
  /** Whether the app has a route or a middleware for the request. */
  wants(request: Request): boolean
  /** The app's answer. Throws `ApiError` where there is none. */
  answer(request: Request, exchange: Exchange, incoming: IncomingMessage | undefined): Promise<Response>
  /** Listens for what the app passes on. */
  listen(own: Own): Promise<void>
  /** Resolves when the app has answered what it answers itself, when the time is over, or when `hurry` aborts. */
  idle(ms: number, hurry: AbortSignal): Promise<void>
  close(): Promise<void>
}

/** A request that is with the app. */
interface Relayed {
  /** What it is called between the app and this server, by a name that nobody can guess. */
  name: string
  exchange: Exchange
  incoming: IncomingMessage | undefined
  added: Added[]
  /** It was passed on: what it waits for is the server. */
  isPassed: boolean
  /** Makes its connection a WebSocket, once middleware has let the answer through. */
  open?: (socket: Socket) => void
}

/** How long it may take to be known why an app has gone. */
const CAUSE_WITHIN_MS = 3_000
const NO_LIMITS = { headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 0, maxHeaderSize: MAX_HEADER_BYTES }

export function createRelay(app: CustomApp, { bodyLimitBytes }: { bodyLimitBytes: number }): Relay {
  const agent = new Agent({ keepAlive: true })
  const ongoing = new Map<string, Relayed>()
  const idlers = new Set<() => void>()
  let known: { routes: ReturnType<CustomApp['routes']>; matches: Matcher } | undefined

  const listener = (own: Own) =>
    getRequestListener(
      (request, node) => {
        const { incoming, outgoing } = node as unknown as Parameters<Own>[1]
        const name = incoming.headers[RELAY]
        if (name === undefined) return own(request, { incoming, outgoing, upgrade: undefined, requestId: undefined })
        const entry = ongoing.get(String(name))
        if (entry === undefined) throw new Error('The client of this request has gone.')
        entry.isPassed = true
        tellIdlers()
        takeBack(request.headers, entry.added)
        const { upgrade, requestId } = entry.exchange
        const keep = (open: (socket: Socket) => void) => {
          entry.open = open
        }
        return own(request, { incoming, outgoing, upgrade: upgrade && keep, requestId })
      },
      { overrideGlobalObjects: false, errorHandler: () => new Response(null, { status: 400 }) },
    )
  const server = createServer(NO_LIMITS)

  const isIdle = () => [...ongoing.values()].every(({ isPassed }) => isPassed)
  const tellIdlers = () => {
    if (idlers.size > 0 && isIdle()) for (const tell of idlers) tell()
  }
  const end = ({ name }: Relayed) => {
    ongoing.delete(name)
    tellIdlers()
  }

  /** Sends the request to the app; resolves with the head of the answer. */
  function ask({ socketPath }: AppInstance, request: Request, entry: Relayed): Promise<IncomingMessage> {
    const { name, exchange, incoming, added } = entry
    return new Promise((resolve, reject) => {
      const headers = headersTo(request, incoming, [...added, { name: RELAY, value: name }])
      const upstream = send({ socketPath, agent, method: request.method, path: pathOf(request), headers })
      const fail = (error: Error) => {
        reject(error)
        upstream.destroy()
      }
      upstream.on('response', (response) => {
        // The app may answer before it has read all: its connection is then of no more use.
        response.on('end', () => upstream.writableFinished || upstream.destroy())
        resolve(response)
      })
      upstream.on('error', reject)
      upstream.on('close', () => end(entry))
      const signal = exchange.signal()
      const leave = () => fail(new Gone())
      if (signal.aborted) leave()
      else signal.addEventListener('abort', leave)
      feed(upstream, bodyOf(request, incoming), bodyLimitBytes, fail)
    })
  }

  async function failureOf(instance: AppInstance): Promise<ApiError> {
    const late = new Promise<undefined>((resolve) => setTimeout(resolve, CAUSE_WITHIN_MS, undefined).unref())
    const cause = await Promise.race([instance.ended, late])
    const words = cause === undefined ? 'broke off before it answered' : `ended before it answered: ${cause}`
    return new ApiError('app_failed', `The custom app ${app.name} ${words}.`)
  }

  return {
    wants(request) {
      const routes = app.routes()
      if (known === undefined || known.routes !== routes) known = { routes, matches: createMatcher(routes) }
      return known.matches(request)
    },

    async answer(request, exchange, incoming) {
      if (Number(request.headers.get('content-length')) > bodyLimitBytes) throw tooLarge(bodyLimitBytes)
      const instance = await app.open()
      const added = addedTo(request.headers, exchange.requestId, incoming?.socket.remoteAddress)
      const entry: Relayed = { name: crypto.randomUUID(), exchange, incoming, added, isPassed: false }
      ongoing.set(entry.name, entry)
      try {
        const response = await ask(instance, request, entry)
        return exchange.upgrade ? upgraded(response, exchange, entry) : answered(response, exchange)
      } catch (error) {
        end(entry)
        if (error instanceof Gone) return exchange.sent(499)
        throw error instanceof ApiError ? error : await failureOf(instance)
      }
    },

    listen: (own) =>
      new Promise((resolve, reject) => {
        server.on('request', listener(own)).once('error', reject).listen(app.apiSocket, resolve)
      }),

    async idle(ms, hurry) {
      if (isIdle() || hurry.aborted) return
      await new Promise<void>((resolve) => {
        idlers.add(resolve)
        setTimeout(resolve, ms).unref()
        hurry.addEventListener('abort', () => resolve())
      })
    },

    async close() {
      agent.destroy()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

/** Nobody waits for the answer. */
class Gone extends Error {}

/** A WebSocket of the server's own, where the app has let it through. */
function upgraded(response: IncomingMessage, exchange: Exchange, { open }: Relayed): Response {
  const status = response.statusCode ?? 502
  if (open !== undefined && status === 204) {
    response.resume()
    exchange.upgrade?.(open)
    return new Response(null, { status })
  }
  if (status >= 300) return answered(response, exchange)
  response.destroy()
  throw new ApiError(
    'not_supported',
    'The custom app cannot serve WebSockets here: it is asked by plain requests only.',
  )
}
