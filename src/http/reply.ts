// What a handler can answer with besides a plain value: headers and status, printed JSON, JSON that comes late, a stream
// of events, a file, nothing. Data only: turning it into a response is respond.ts.

import type { Text } from '../executor/protocol.ts'
import type { Socket } from './sockets.ts'

/** Headers of a reply, names in lower case. An undefined one is left out. */
export type ReplyHeaders = Readonly<Record<string, string | undefined>>

export interface ReplyOptions {
  headers?: ReplyHeaders
  status?: number
}

/** One server-sent event; `data` is JSON text. */
export interface SseEvent {
  id?: string
  event: string
  data: string
}

/** Events, or what begins them; `signal` aborts when the client has gone or was dropped. */
export type SseSource = AsyncIterable<SseEvent> | ((signal: AbortSignal) => AsyncIterable<SseEvent>)

const kind = Symbol('reply')

interface Tagged<K extends string> extends ReplyOptions {
  readonly [kind]: K
}
export interface ValueReply<T> extends Tagged<'value'> {
  value: T
}
export interface JsonReply extends Tagged<'json'> {
  text: string
}
export interface LateReply extends Tagged<'late'> {
  work(signal: AbortSignal): Promise<Text>
}
export interface SseReply extends Tagged<'sse'> {
  source: SseSource
}
export interface FileReply extends Tagged<'file'> {
  content: string | Uint8Array
  type: string
}
export interface SocketReply extends Tagged<'socket'> {
  open(socket: Socket): void
}
export type EmptyReply = Tagged<'empty'>

export type AnyReply = ValueReply<unknown> | JsonReply | LateReply | SseReply | FileReply | SocketReply | EmptyReply

/** A value with headers or a status of its own. */
export const reply = <T>(value: T, options: ReplyOptions = {}): ValueReply<T> => ({
  [kind]: 'value',
  value,
  ...options,
})

/** JSON text that is sent as it is. */
export const rawJson = (text: string, options: ReplyOptions = {}): JsonReply => ({ [kind]: 'json', text, ...options })

/** JSON that takes its time: the headers go in a moment, then a newline every five seconds, then the text that `work` gives.
 *  The status is said before the work is done, so `work` should give failures as JSON; what it throws becomes
 *  `{"__error__": {"error", "message"}}`. */
export const late = (work: (signal: AbortSignal) => Promise<Text>, options: ReplyOptions = {}): LateReply => ({
  [kind]: 'late',
  work,
  ...options,
})

/** A stream of server-sent events. When the client has gone, `signal` aborts and the iterator's `return()` is called. */
export const sse = (source: SseSource, options: ReplyOptions = {}): SseReply => ({ [kind]: 'sse', source, ...options })

/** A page or an asset with its media type. */
export const file = (content: string | Uint8Array, type: string, options: ReplyOptions = {}): FileReply => ({
  [kind]: 'file',
  content,
  type,
  ...options,
})

/** A WebSocket, which `open` serves. */
export const socket = (open: (socket: Socket) => void): SocketReply => ({ [kind]: 'socket', open })

/** No body; 204 unless another status is given. */
export const empty = (options: ReplyOptions = {}): EmptyReply => ({ [kind]: 'empty', ...options })

/** Which of the above an answer is; undefined for a plain value. */
export function kindOf(answer: unknown): AnyReply[typeof kind] | undefined {
  if (typeof answer !== 'object' || answer === null || !(kind in answer)) return undefined
  return (answer as AnyReply)[kind]
}
