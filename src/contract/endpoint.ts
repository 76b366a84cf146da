// An endpoint as data. In charge of the datum from which validation, handler types, permission, OpenAPI and the route
// test all come; knows nothing of HTTP libraries.

import type { z } from 'zod'
import type { ErrorCode } from '../errors.ts'

type Shape = z.ZodType
type Maybe = Shape | undefined
/** A JSON schema (the JSON may be written late, behind heartbeats), a stream of events, a page or asset, a WebSocket, or no body. */
export type Reply = Shape | 'sse' | 'file' | 'socket' | 'none'

export interface Endpoint<
  P extends Maybe = Maybe,
  Q extends Maybe = Maybe,
  B extends Maybe = Maybe,
  R extends Reply = Reply,
> {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Path with `{name}` parameters, as in OpenAPI. */
  path: `/${string}`
  tag: 'Assistants' | 'Threads' | 'Runs' | 'Stateless runs' | 'Crons' | 'Store' | 'Webhooks' | 'System'
  summary: string
  description?: string
  /** `resource:action` that auth checks; absent where no one is asked. */
  permission?: `${'assistants' | 'threads' | 'crons' | 'store'}:${string}`
  params?: P
  query?: Q
  body?: B
  /** True where a missing body counts as `{}`. */
  bodyOptional?: boolean
  /** True where the handler gets the body as it was sent and judges it, because a refusal has a form of its own. */
  bodyUnjudged?: boolean
  /** Request headers with a meaning of their own here, each with one sentence. */
  headers?: Readonly<Record<string, string>>
  reply: R
  /** Reply headers with a meaning of their own here, each with one sentence. */
  replyHeaders?: Readonly<Record<string, string>>
  /** Success status, 200 by default (204 where reply is 'none'). */
  status?: number
  errors?: readonly ErrorCode[]
}

/** Declares an endpoint, keeping the schemas' types. */
export const endpoint = <
  P extends Maybe = undefined,
  Q extends Maybe = undefined,
  B extends Maybe = undefined,
  const R extends Reply = 'none',
>(
  declared: Endpoint<P, Q, B, R>,
): Endpoint<P, Q, B, R> => declared

/** What a schema parses to. */
export type Part<S> = S extends Shape ? z.output<S> : undefined
