// Turns what a handler gave, or what it threw, into a response. In charge of the one exit for errors; headers go in as a
// plain object at once, because the Node server writes those without building a Headers object.

import type { ServerResponse } from 'node:http'
import { ApiError } from '../errors.ts'
import type { Text } from '../executor/protocol.ts'
import type { Observe } from '../observe.ts'
import { lateStream, writeLate } from './late.ts'
import { type AnyReply, kindOf, type ReplyHeaders, type SocketReply } from './reply.ts'
import type { Socket } from './sockets.ts'
import { eventStream, writeEvents } from './sse.ts'

/** One request and what its answer carries in any case. */
export interface Exchange {
  requestId: string
  method: string
  path: string
  /** Headers of every answer to this request. */
  headers: Record<string, string>
  /** Asked for only where needed: on Node it costs. */
  signal: () => AbortSignal
  /** Makes the connection a WebSocket, where that is asked for. */
  upgrade?: ((open: (socket: Socket) => void) => void) | undefined
  /** Breaks the connection, where there is one. */
  cut?: (() => void) | undefined
  /** Node's response, where there is one. */
  outgoing?: ServerResponse | undefined
  /** Says that Node's response is written already, or will be. */
  sent(status: number): Response
  observe: Observe
}

const UPGRADE = { connection: 'upgrade', upgrade: 'websocket' }

const STREAMED = { 'cache-control': 'no-store', 'x-accel-buffering': 'no' }

/** The response for an answer; `status` is what the endpoint's success is. */
export function respond(answer: unknown, status: number, exchange: Exchange): Response {
  const kind = kindOf(answer)
  if (kind === undefined) return answered(answer === undefined ? undefined : JSON.stringify(answer), status, exchange)
  const given = answer as AnyReply
  const own = given.headers
  const code = given.status ?? status
  switch (kind) {
    case 'value': {
      const { value } = given as { value: unknown }
      return answered(value === undefined ? undefined : JSON.stringify(value), code, exchange, own)
    }
    case 'json':
      return answered((given as { text: string }).text, code, exchange, own)
    case 'socket': {
      if (exchange.upgrade === undefined) throw new ApiError('upgrade_required', undefined, { headers: UPGRADE })
      exchange.upgrade((given as SocketReply).open)
      return answered(undefined, 204, exchange)
    }
    case 'empty':
      return answered(undefined, given.status ?? 204, exchange, own)
    default:
      return streamed(given, code, exchange)
  }
}

function answered(json: string | undefined, status: number, exchange: Exchange, own?: ReplyHeaders): Response {
  const headers = merge(exchange, own)
  if (json === undefined || status === 204)
    return whole(null, json === undefined && status === 200 ? 204 : status, headers, exchange)
  headers['content-type'] = 'application/json'
  return whole(exchange.method === 'HEAD' ? null : json, status, headers, exchange)
}

/** Straight to Node's response: a Response, with the stream that it makes of its text, costs more than all else here. */
function whole(
  body: string | Uint8Array | null,
  status: number,
  headers: Record<string, string>,
  { outgoing, sent, method }: Exchange,
): Response {
  if (!outgoing) return new Response(body as string | null, { status, headers })
  if (method !== 'HEAD' && status !== 204)
    headers['content-length'] = String(body === null ? 0 : Buffer.byteLength(body))
  outgoing.writeHead(status, headers).end(body)
  return sent(status)
}

function streamed(given: AnyReply, status: number, exchange: Exchange): Response {
  const headers = merge(exchange, given.headers)
  const failed = (error: unknown) => {
    const { method, path, requestId: request_id } = exchange
    exchange.observe({ kind: 'request_failed', method, path, request_id, error })
  }
  const head = exchange.method === 'HEAD'
  if ('content' in given) {
    headers['content-type'] = given.type
    return whole(head ? null : (given.content as string), status, headers, exchange)
  }
  Object.assign(headers, STREAMED)
  // On a connection that was to be closed anyway, clients take what came before a break for all of it.
  delete headers.connection
  const { cut, outgoing } = exchange
  if ('source' in given) {
    headers['content-type'] = 'text/event-stream'
    if (outgoing && !head) {
      outgoing.writeHead(status, headers).flushHeaders()
      writeEvents(given.source, outgoing, { failed })
      return exchange.sent(status)
    }
    // Begun even where nobody reads it, so that it lets go of what it holds.
    const signal = head ? AbortSignal.abort() : exchange.signal()
    const body = eventStream(given.source, { signal, cut, failed })
    return new Response(head ? null : body, { status, headers })
  }
  headers['content-type'] = 'application/json'
  const work = (given as { work: (signal: AbortSignal) => Promise<Text> }).work
  if (outgoing && !head) {
    writeLate(work, outgoing, { status, headers, failed })
    return exchange.sent(status)
  }
  return new Response(head ? null : lateStream(work, { signal: exchange.signal(), cut, failed }), { status, headers })
}

function merge(exchange: Exchange, own: ReplyHeaders = {}): Record<string, string> {
  const headers = { ...exchange.headers }
  for (const name in own) {
    const value = own[name]
    if (value !== undefined) headers[name.toLowerCase()] = value
  }
  return headers
}

/** The response for a failure: `{"detail", "code"}`. What was not meant for the client is observed and hidden. */
export function respondError(thrown: unknown, exchange: Exchange): Response {
  const error = thrown instanceof ApiError ? thrown : new ApiError('internal')
  if (error !== thrown) {
    const { method, path, requestId: request_id } = exchange
    exchange.observe({ kind: 'request_failed', method, path, request_id, error: thrown })
  }
  const retry = error.status === 503 ? { 'retry-after': '1' } : {}
  const body = JSON.stringify({ detail: error.message, code: error.code })
  return answered(body, error.status, exchange, { ...retry, ...error.headers })
}
