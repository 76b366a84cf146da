// The routes of runs, on threads and without one. In charge of the request's headers becoming config, of the paths that
// clients go on from, and of `on_disconnect`; what a run is, is the engine's.

import type { RunCreate } from '../contract/runs.ts'
import * as stateless from '../contract/stateless-runs.ts'
import * as contract from '../contract/thread-runs.ts'
import { streamThread } from '../contract/threads.ts'
import * as runs from '../db/runs.ts'
import type { Sql } from '../db/sql.ts'
import * as threads from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import type { Text } from '../executor/protocol.ts'
import { type CreateRequest, hashOf } from '../runs/create.ts'
import type { Events } from '../runs/engine.ts'
import type { HttpDeps } from './deps.ts'
import { late, rawJson, reply, sse } from './reply.ts'
import { on, type Route } from './route.ts'

interface Asked {
  headers: Headers
  visible: Sql
  text: string
}

/** Every route of runs. */
export function runRoutes(deps: HttpDeps): Route[] {
  return [...creating(deps), ...reading(deps), ...following(deps), ...cancelling(deps)]
}

function creating(deps: HttpDeps): Route[] {
  const { engine } = deps
  const reason = 'the client disconnected (on_disconnect=cancel)'
  const create = async (request: CreateRequest) => {
    const { run } = await engine.create(request)
    return reply(run, { headers: { 'content-location': pathOf(request, run) } })
  }
  const stream = async (request: CreateRequest, namespace: string[] | undefined) => {
    const { run, events } = await engine.stream(request, wantedOf({ namespace }))
    const cancel = request.body.on_disconnect === 'cancel' && canceller(deps, run, reason, request.visible)
    const headers = { 'content-location': pathOf(request, run), location: `${onThread(run)}/stream` }
    return sse(cancelOnLeave(events, cancel), { headers })
  }
  const wait = async (request: CreateRequest) => {
    const { run, result } = await engine.wait(request)
    const cancel = request.body.on_disconnect === 'cancel' && canceller(deps, run, reason, request.visible)
    const headers = { 'content-location': pathOf(request, run), location: `${onThread(run)}/join` }
    return late((gone) => cancelledIfLeft(result(gone), gone, cancel), { headers })
  }

  return [
    on(contract.createRun, (asked) => create(asking(asked.params.thread_id, asked.body, asked))),
    on(contract.streamRun, (asked) => stream(asking(asked.params.thread_id, asked.body, asked), asked.query.namespace)),
    on(contract.waitRun, (asked) => wait(asking(asked.params.thread_id, asked.body, asked))),
    on(stateless.createStatelessRun, (asked) => create(asking(null, asked.body, asked))),
    on(stateless.streamStatelessRun, (asked) => stream(asking(null, asked.body, asked), asked.query.namespace)),
    on(stateless.waitStatelessRun, (asked) => wait(asking(null, asked.body, asked))),
    on(stateless.createRunBatch, async (asked) => {
      const started = await engine.createMany(asked.body.map((one, i) => asking(null, one, asked, i)))
      return started.map(({ run }) => run)
    }),
  ]
}

function reading({ db }: HttpDeps): Route[] {
  const seen = (threadId: string, visible: Sql) => threads.get(db, threadId, visible)
  return [
    on(contract.listRuns, async ({ params, query, visible }) => {
      const rows = await runs.list(db, params.thread_id, query, visible)
      if (rows.length === 0) await seen(params.thread_id, visible)
      return query.select === undefined ? rows : rows.map((row) => pick(row, query.select as (keyof runs.RunView)[]))
    }),
    on(contract.getRun, async ({ params, visible }) => {
      const run = await runs.look(db, params.thread_id, params.run_id, visible)
      if (run === undefined) throw noRun(params.run_id)
      return run
    }),
    on(contract.deleteRun, async ({ params, visible }) => {
      const run = await runs.get(db, params.thread_id, params.run_id, visible)
      if (run === undefined) throw noRun(params.run_id)
      if ((await runs.remove(db, run.run_id)).length === 0) throw new ApiError('run_active')
      return {}
    }),
  ]
}

function following(deps: HttpDeps): Route[] {
  const { db, engine } = deps
  const reason = 'a client disconnected (cancel_on_disconnect)'
  const join = async (run: { thread_id: string | null; run_id: string }, query: JoinQuery, asked: Asked) => {
    const lastEventId = asked.headers.get('last-event-id')
    const options = { lastEventId, wanted: wantedOf(query), visible: asked.visible }
    const joined = await engine.joinStream(run, options)
    const cancel = query.cancel_on_disconnect && canceller(deps, joined.run, reason, asked.visible)
    const path = run.thread_id === null ? `/runs/${run.run_id}` : onThread(joined.run)
    const headers = { 'content-location': path, location: `${onThread(joined.run)}/stream` }
    return sse(cancelOnLeave(joined.events, cancel), { headers })
  }
  return [
    on(contract.joinRun, async ({ params, query, visible }) => {
      const exists =
        engine.knows(params, visible) || (await runs.get(db, params.thread_id, params.run_id, visible)) !== undefined
      if (!exists) throw noRun(params.run_id)
      const cancel = query.cancel_on_disconnect && canceller(deps, params, reason, visible)
      const headers = { 'content-location': onThread(params), location: `${onThread(params)}/join` }
      return late((gone) => cancelledIfLeft(engine.join(params, visible, gone), gone, cancel), { headers })
    }),
    on(contract.joinRunStream, (asked) => join(asked.params, asked.query, asked)),
    on(stateless.joinStatelessRunStream, (asked) => join({ thread_id: null, ...asked.params }, asked.query, asked)),
    on(streamThread, async ({ params, query, headers, visible }) => {
      await threads.get(db, params.thread_id, visible)
      const options = { lastEventId: headers.get('last-event-id'), modes: query.stream_mode }
      return sse(await engine.threadStream(params.thread_id, options))
    }),
  ]
}

function cancelling({ engine }: HttpDeps): Route[] {
  return [
    on(contract.cancelRun, async ({ params, query, visible, signal }) => {
      const reason = query.reason === 'taken' ? 'taken: cancelled through the API' : 'cancelled through the API'
      await engine.cancel({ ...params, action: query.action, reason, visible, wait: query.wait }, signal)
      return rawJson('{}', { status: query.wait ? 200 : 202 })
    }),
    on(contract.cancelRuns, ({ query, body, visible }) =>
      engine.cancelMany(body, { action: query.action, reason: 'cancelled through the API', visible }),
    ),
  ]
}

type JoinQuery = contract.JoinQuery

const noRun = (runId: string) => new ApiError('run_not_found', `There is no run ${runId} on this thread.`)

const pick = <T extends object, K extends keyof T>(row: T, keys: readonly K[]): Pick<T, K> =>
  Object.fromEntries(keys.map((key) => [key, row[key]])) as Pick<T, K>

/** Where to go on from: always on the thread, since clients ask there whether the run is still active. */
const onThread = (run: { thread_id: string; run_id: string }): string => `/threads/${run.thread_id}/runs/${run.run_id}`

const pathOf = (request: CreateRequest, run: runs.RunRow): string =>
  request.thread_id === null ? `/runs/${run.run_id}` : `/threads/${run.thread_id}/runs/${run.run_id}`

const wantedOf = (query: {
  stream_mode?: readonly string[] | undefined
  namespace?: readonly string[] | undefined
  checkpoint_id?: string | undefined
}) => ({
  ...(query.stream_mode !== undefined && { modes: query.stream_mode }),
  ...(query.namespace !== undefined && { namespaces: query.namespace }),
  ...(query.checkpoint_id !== undefined && { checkpoint_id: query.checkpoint_id }),
})

/** `item` is the place in a batch: its first item takes the batch's key, so that a batch asked for otherwise is refused
 *  before anything is made. */
function asking(threadId: string | null, body: RunCreate, asked: Asked, item?: number): CreateRequest {
  const key = asked.headers.get('idempotency-key')
  if (key !== null && !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new ApiError('validation_failed', 'Idempotency-Key must be 1 to 255 visible ASCII characters.')
  }
  const what = threadId ?? (item === undefined ? 'run' : 'batch')
  return {
    thread_id: threadId,
    body,
    visible: asked.visible,
    configurable: fromHeaders(asked.headers),
    ...(key !== null && { idempotency: { key: item ? `${key} ${item}` : key, bodyHash: hashOf(what, asked.text) } }),
  }
}

/** Headers that are never config: they hold secrets. */
const SECRET = new Set(['x-api-key', 'x-tenant-id', 'x-service-key'])

/** `x-*` headers and the user agent become `config.configurable`, in lower case. */
export function fromHeaders(headers: Headers): Record<string, string> {
  const config: Record<string, string> = {}
  for (const [name, value] of headers) {
    if (name === 'user-agent' || (name.startsWith('x-') && !SECRET.has(name))) config[name] = value
  }
  return config
}

/** A run's result for a client that waits for it; `cancel` is called where it leaves before. */
async function cancelledIfLeft(
  result: Promise<Text | undefined>,
  gone: AbortSignal,
  cancel: (() => void) | false,
): Promise<Text> {
  const stop = cancel ? onAbort(gone, cancel) : () => {}
  return (await result.finally(stop)) ?? 'null'
}

function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act()
  else signal.addEventListener('abort', act, { once: true })
  return () => signal.removeEventListener('abort', act)
}

/** Cancels a run that its client has left. */
const canceller = (
  { engine }: HttpDeps,
  { thread_id, run_id }: { thread_id: string; run_id: string },
  reason: string,
  visible: Sql,
) => {
  const request = { thread_id, run_id, action: 'interrupt' as const, reason, visible }
  // A failure means that it has ended: there is nothing to cancel.
  return () => void engine.abandon(request).catch(() => {})
}

/** The events as they are; a reader that leaves before their end sets off `cancel`, where there is one. */
function cancelOnLeave(events: Events, cancel: (() => void) | false): Events {
  if (!cancel) return events
  return async function* watched(signal) {
    const stop = onAbort(signal, cancel)
    try {
      yield* events(signal)
    } finally {
      stop()
    }
  }
}
