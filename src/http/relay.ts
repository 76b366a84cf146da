// The way of requests to the custom app and back. In charge of which requests are the app's, of relaying them with streams in both
// directions, and of the private socket over which the app passes on what it does not answer. What has no route or middleware
// there never leaves this process.

import { Agent, type ClientRequest, createServer, type IncomingMessage, request as send } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream as WebStream } from 'node:stream/web'
import { getRequestListener } from '@hono/node-server'
import { ApiError } from '../errors.ts'
import type { AppInstance, CustomApp } from '../executor/custom.ts'
import { MAX_HEADER_BYTES, pairsOf, RELAY, relayed } from '../executor/custom-protocol.ts'
import { tooLarge } from './body.ts'
import { createMatcher, type Matcher } from './matcher.ts'
import type { Exchange } from './respond.ts'
import type { Socket } from './sockets.ts'

/** How the server itself answers what the app passes on. */
export type Own = (
  request: Request,
  node: {
    incoming: IncomingMessage
    outgoing: NonNullable<Exchange['outgoing']>
    upgrade: Exchange['upgrade']
    /** It belongs to a request that was told of already. */
    isRelayed: boolean
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
  /** It was passed on: what it waits for is the server. */
  isPassed: boolean
  /** Makes its connection a WebSocket, once middleware has let the answer through. */
  open?: (socket: Socket) => void
  upgrade: Exchange['upgrade']
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
        const relay = incoming.headers[RELAY]
        const entry = ongoing.get(String(relay))
        if (relay !== undefined && entry === undefined) throw new Error('The client of this request has gone.')
        if (entry) entry.isPassed = true
        tellIdlers()
        return own(request, { incoming, outgoing, upgrade: entry?.upgrade, isRelayed: entry !== undefined })
      },
      { overrideGlobalObjects: false, errorHandler: () => new Response(null, { status: 400 }) },
    )
  const server = createServer(NO_LIMITS)

  const isIdle = () => [...ongoing.values()].every(({ isPassed }) => isPassed)
  const tellIdlers = () => {
    if (idlers.size > 0 && isIdle()) for (const tell of idlers) tell()
  }
  const end = (relay: string) => {
    ongoing.delete(relay)
    tellIdlers()
  }

  /** Sends the request to the app; resolves with the head of the answer. */
  function ask(instance: AppInstance, request: Request, relay: string, given: Given): Promise<IncomingMessage> {
    const { exchange } = given
    return new Promise((resolve, reject) => {
      const headers = headersTo(request, relay, given)
      const upstream = send({
        socketPath: instance.socketPath,
        agent,
        method: request.method,
        path: pathOf(request),
        headers,
      })
      const fail = (error: Error) => {
        reject(error)
        upstream.destroy()
      }
      upstream.on('response', (response) => {
        // The app may answer before it has read all: its connection is then of no more use.
        response.on('end', () => upstream.writableFinished || upstream.destroy())
        resolve(response)
      })
      upstream.on('error', () => void failureOf(instance).then(reject))
      upstream.on('close', () => end(relay))
      const signal = exchange.signal()
      const leave = () => fail(new Gone())
      if (signal.aborted) leave()
      else signal.addEventListener('abort', leave)
      feed(upstream, bodyOf(request, given.incoming), bodyLimitBytes, fail)
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
      if (known?.routes !== routes || known === undefined) known = { routes, matches: createMatcher(routes) }
      return known.matches(request)
    },

    async answer(request, exchange, incoming) {
      if (Number(request.headers.get('content-length')) > bodyLimitBytes) throw tooLarge(bodyLimitBytes)
      const instance = await app.open()
      const relay = crypto.randomUUID()
      const entry: Relayed = { isPassed: false, upgrade: undefined }
      if (exchange.upgrade) {
        entry.upgrade = (open) => {
          entry.open = open
        }
      }
      ongoing.set(relay, entry)
      try {
        const response = await ask(instance, request, relay, { exchange, incoming })
        return exchange.upgrade ? upgraded(response, exchange, entry) : answered(response, exchange)
      } catch (error) {
        end(relay)
        if (error instanceof Gone) return exchange.sent(499)
        throw error
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
      if (server.listening) await closed
    },
  }
}

/** Nobody waits for the answer. */
class Gone extends Error {}

interface Given {
  exchange: Exchange
  incoming: IncomingMessage | undefined
}

const pathOf = ({ url }: Request): string => url.slice(url.indexOf('/', url.indexOf('//') + 2))

function headersTo(request: Request, relay: string, { exchange, incoming }: Given): Record<string, string> {
  const headers = Object.fromEntries(relayed(request.headers))
  if (request.method === 'GET' || request.method === 'HEAD') delete headers['content-length']
  const peer = incoming?.socket.remoteAddress
  const before = headers['x-forwarded-for']
  if (peer !== undefined) headers['x-forwarded-for'] = before === undefined ? peer : `${before}, ${peer}`
  headers['x-request-id'] = exchange.requestId
  headers[RELAY] = relay
  headers.host ??= new URL(request.url).host
  return headers
}

function bodyOf(request: Request, incoming: IncomingMessage | undefined): Readable | undefined {
  if (request.method === 'GET' || request.method === 'HEAD') return undefined
  return incoming ?? (request.body ? Readable.fromWeb(request.body as WebStream) : undefined)
}

/** Sends a body on as it comes, within its limit. */
function feed(to: ClientRequest, body: Readable | undefined, limitBytes: number, fail: (error: Error) => void): void {
  if (body === undefined || body.readableEnded) return void to.end()
  let size = 0
  const onData = (chunk: Uint8Array) => {
    size += chunk.length
    if (size > limitBytes) fail(tooLarge(limitBytes))
    else if (!to.write(chunk)) body.pause()
  }
  const onEnd = () => to.end()
  const onFailure = () => to.destroy()
  body.on('data', onData).on('end', onEnd).on('error', onFailure)
  to.on('drain', () => body.resume())
  to.on('close', () => {
    // What the app did not want to read is read by nobody.
    body.off('data', onData).off('end', onEnd).resume()
  })
}

/** Passes the app's answer on, to Node's response where there is one. */
function answered(response: IncomingMessage, exchange: Exchange): Response {
  const status = response.statusCode ?? 502
  const headers = headersFrom(response, exchange.headers)
  const { outgoing } = exchange
  if (outgoing === undefined) {
    const isEmpty = status === 204 || status === 205 || status === 304 || exchange.method === 'HEAD'
    if (isEmpty) response.resume()
    return new Response(isEmpty ? null : (Readable.toWeb(response) as ReadableStream), { status, headers })
  }
  outgoing.writeHead(status, headers.flat())
  if (!headers.some(([name]) => name === 'content-length')) outgoing.flushHeaders()
  // Whoever breaks off, the other end is told by it.
  pipeline(response, outgoing).catch(() => {})
  return exchange.sent(status)
}

/** The app's headers, below those that every answer of this server has. */
function headersFrom(response: IncomingMessage, ours: Exchange['headers']): [string, string][] {
  const { connection: _, vary, ...certain } = ours
  const kept = relayed(pairsOf(response.rawHeaders)).filter(([name]) => !Object.hasOwn(certain, name))
  const varies = kept.some(([name, value]) => name === 'vary' && /(^|,)\s*(origin|\*)\s*(,|$)/i.test(value))
  return [
    ...kept,
    ...Object.entries(certain),
    ...(vary === undefined || varies ? [] : [['vary', vary] as [string, string]]),
  ]
}

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
