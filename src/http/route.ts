// A route: an endpoint with its handler. In charge of the types that hold a handler to its endpoint's data; a handler
// whose reply is not what the contract says does not compile.

import type { z } from 'zod'
import type { Endpoint, Part, Reply } from '../contract/endpoint.ts'
import type { Sql } from '../db/sql.ts'
import type {
  AnyReply,
  EmptyReply,
  FileReply,
  JsonReply,
  LateReply,
  SocketReply,
  SseReply,
  ValueReply,
} from './reply.ts'

export { empty, file, late, rawJson, reply, socket, sse } from './reply.ts'

type Maybe = z.ZodType | undefined

/** A request that passed its contract. */
export interface HttpRequest<P extends Maybe = undefined, Q extends Maybe = undefined, B extends Maybe = undefined> {
  params: Part<P>
  query: Part<Q>
  body: Part<B>
  /** The body as it was sent, for comparing and hashing. Empty where there was none. */
  text: string
  /** Which rows the caller may see. */
  visible: Sql
  /** Aborts when the client has gone before its answer was complete. */
  readonly signal: AbortSignal
  headers: Headers
  requestId: string
}

/** What a handler of an endpoint with this reply may give. */
export type Answer<R extends Reply> = R extends z.ZodType
  ? z.output<R> | ValueReply<z.output<R>> | ValueReply<undefined> | JsonReply | LateReply | EmptyReply
  : R extends 'sse'
    ? SseReply
    : R extends 'file'
      ? FileReply
      : R extends 'socket'
        ? SocketReply
        : // biome-ignore lint/suspicious/noConfusingVoidType: a handler without a reply returns nothing
          EmptyReply | void

type Handler<P extends Maybe, Q extends Maybe, B extends Maybe, R extends Reply> = (
  request: HttpRequest<P, Q, B>,
) => Answer<R> | Promise<Answer<R>>

/** An endpoint with its handler, its types forgotten. */
export interface Route {
  endpoint: Endpoint
  handle(request: HttpRequest<Maybe, Maybe, Maybe>): Promise<unknown | AnyReply>
}

/** Makes the route of an endpoint. */
export const on = <P extends Maybe, Q extends Maybe, B extends Maybe, R extends Reply>(
  endpoint: Endpoint<P, Q, B, R>,
  handler: Handler<P, Q, B, R>,
): Route => ({
  endpoint,
  // the app hands over only what this endpoint's own schemas gave
  handle: async (request) => handler(request as HttpRequest<P, Q, B>),
})
