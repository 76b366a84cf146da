// What is relayed to the custom app and back: headers and bodies, without what belongs to a connection alone. In charge of the limit
// of bodies, and of what every answer of this server says; knows nothing of who is asked.

import type { ClientRequest, IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream as WebStream } from 'node:stream/web'
import { pairsOf, relayed } from '../executor/custom-protocol.ts'
import { tooLarge } from './body.ts'
import type { Exchange } from './respond.ts'

/** A header that is added on the way, and what the client had said. */
export interface Added {
  name: string
  value: string
  before: string | undefined
}

/** Path and query of a request, as they were sent. */
export const pathOf = ({ url }: Request): string => url.slice(url.indexOf('/', url.indexOf('//') + 2))

/** What the app is told besides what the client said: the request's id, and who sent it. */
export function addedTo(headers: Headers, requestId: string, peer: string | undefined): Added[] {
  const add = (name: string, value: (before: string | null) => string): Added => {
    const before = headers.get(name)
    return { name, value: value(before), before: before ?? undefined }
  }
  const id = add('x-request-id', () => requestId)
  return peer === undefined ? [id] : [id, add('x-forwarded-for', (before) => (before ? `${before}, ${peer}` : peer))]
}

/** What is passed on says what the client said, but for what middleware has changed: such headers become the config of runs. */
export function takeBack(headers: Headers, added: readonly Added[]): void {
  for (const { name, value, before } of added) {
    if (headers.get(name) !== value) continue
    if (before === undefined) headers.delete(name)
    else headers.set(name, before)
  }
}

/** The headers that go to the app. */
export function headersTo(
  request: Request,
  incoming: IncomingMessage | undefined,
  added: readonly { name: string; value: string }[],
): Record<string, string> {
  const headers = Object.fromEntries(relayed(request.headers))
  if (!mayHaveBody(request)) delete headers['content-length']
  // Of its own accord Node frames bodies of some methods only.
  else if (headers['content-length'] === undefined && isStreamed(request, incoming))
    headers['transfer-encoding'] = 'chunked'
  for (const { name, value } of added) headers[name] = value
  headers.host ??= new URL(request.url).host
  return headers
}

// Fetch knows no bodies of these.
const mayHaveBody = ({ method }: Request): boolean => method !== 'GET' && method !== 'HEAD'

const isStreamed = (request: Request, incoming: IncomingMessage | undefined): boolean =>
  incoming ? incoming.headers['transfer-encoding'] !== undefined : request.body !== null

/** The body of a request, from Node's message where there is one. */
export function bodyOf(request: Request, incoming: IncomingMessage | undefined): Readable | undefined {
  if (!mayHaveBody(request)) return undefined
  return incoming ?? (request.body ? Readable.fromWeb(request.body as WebStream) : undefined)
}

/** Sends a body on as it comes; `fail` is told when it goes beyond its limit. */
export function feed(
  to: ClientRequest,
  body: Readable | undefined,
  limitBytes: number,
  fail: (error: Error) => void,
): void {
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
export function answered(response: IncomingMessage, exchange: Exchange): Response {
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
