// Every error a client can see: its code, HTTP status and default sentence. In charge of the closed list and of turning
// an unknown failure into one of them; must never import another module or carry a stack, SQL or a secret to a client.

const codes = {
  invalid_json: [400, 'The request body is not valid JSON.'],
  bad_request: [400, 'The request cannot be understood.'],
  not_found: [404, 'There is nothing at this path.'],
  method_not_allowed: [405, 'This method is not allowed on this path.'],
  assistant_not_found: [404, 'The assistant does not exist.'],
  graph_not_found: [404, 'The graph does not exist.'],
  thread_not_found: [404, 'The thread does not exist.'],
  run_not_found: [404, 'The run does not exist.'],
  checkpoint_not_found: [404, 'The checkpoint does not exist.'],
  cron_not_found: [404, 'The cron does not exist.'],
  item_not_found: [404, 'The item does not exist.'],
  delivery_not_found: [404, 'The webhook delivery does not exist.'],
  version_not_found: [404, 'The assistant version does not exist.'],
  assistant_exists: [409, 'An assistant with this id exists already.'],
  thread_exists: [409, 'A thread with this id exists already.'],
  thread_busy: [409, 'The thread is busy: a run is pending or running on it.'],
  run_active: [409, 'The run is pending or running: cancel it first.'],
  run_not_cancellable: [409, 'The run has ended and cannot be cancelled.'],
  conflict: [409, 'The request conflicts with the present state.'],
  body_too_large: [413, 'The request body is larger than this server takes.'],
  unsupported_media_type: [415, 'The request body must be JSON.'],
  upgrade_required: [426, 'This path is a WebSocket: ask for an upgrade, or POST to it for server-sent events.'],
  validation_failed: [422, 'The request is not valid.'],
  not_supported: [422, 'This option is not supported.'],
  idempotency_conflict: [422, 'This Idempotency-Key was used with another body.'],
  graph_has_no_state: [422, 'The thread has no graph yet: run it once, or create it with graph_id.'],
  invalid_update: [422, 'The state update is not valid for this graph.'],
  graph_load_failed: [500, 'The graph could not be loaded.'],
  graph_failed: [500, 'The graph failed while answering.'],
  internal: [500, 'The server failed to answer. Its log says why, under the request id.'],
  cannot_decrypt: [500, 'What is stored cannot be decrypted with the keys that this server has.'],
  app_failed: [502, 'The custom app of this server failed.'],
  embedding_failed: [502, 'The texts could not be embedded.'],
  storage_unmeasured: [501, 'The storage of this thread cannot be measured.'],
  overloaded: [503, 'The server is overloaded. Try again later.'],
  database_unavailable: [503, 'The database cannot be reached. Try again later.'],
  app_unavailable: [503, 'The custom app of this server cannot answer now. Try again later.'],
  executor_unavailable: [503, 'No executor can answer now. Try again later.'],
  shutting_down: [503, 'The server is shutting down. Try again on another one.'],
} as const satisfies Record<string, readonly [number, string]>

/** A code of the closed list above; it is sent as `code` in every error body. */
export type ErrorCode = keyof typeof codes

/** The HTTP status of a code. */
export const statusOf = (code: ErrorCode): number => codes[code][0]

/** Every code with its status and default sentence, for OpenAPI and the docs. */
export const errorCodes = (): { code: ErrorCode; status: number; detail: string }[] =>
  (Object.keys(codes) as ErrorCode[]).map((code) => ({ code, status: codes[code][0], detail: codes[code][1] }))

/** An error that is meant for the client: `detail` is one sentence saying what is wrong and what to do. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly code: ErrorCode
  readonly headers: Readonly<Record<string, string>>
  constructor(code: ErrorCode, detail?: string, options: { headers?: Record<string, string>; cause?: unknown } = {}) {
    super(detail ?? codes[code][1], { cause: options.cause })
    this.code = code
    this.headers = options.headers ?? {}
  }
  get status(): number {
    return statusOf(this.code)
  }
}

/** A mistake in flags, environment or langgraph.json: stops the start with one sentence that names the key. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** What a worker meets when its claim on a run has moved on; nothing it still holds may be written. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost'
}

/** What settling a run meets that is to be rolled back instead: nothing of its end was written. */
export class RollbackWished extends Error {
  override readonly name = 'RollbackWished'
}

/** The message of anything thrown, for logs and run errors; never throws itself (getters may). */
export function messageOf(thrown: unknown): string {
  try {
    return thrown instanceof Error
      ? thrown.message
      : typeof thrown === 'string'
        ? thrown
        : String(JSON.stringify(thrown))
  } catch {
    return 'unknown error'
  }
}
