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
import { type CreateRequest, hashOf } from '../runs/create.ts'
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

function creating({ engine }: HttpDeps): Route[] {
  const create = async (request: CreateRequest) => {
    const { run } = await engine.create(request)
    return reply(run, { headers: { 'content-location': pathOf(request, run) } })
  }
  const stream = async (request: CreateRequest, namespaces: string[] | undefined, signal: AbortSignal) => {
    const { run, events } = await engine.stream(request, wantedOf({ namespaces }), signal)
    const path = pathOf(request, run)
    const source = cancelOnLeave(events, signal, request.body.on_disconnect === 'cancel', () =>
      disconnected(request, run),
    )
    return sse(source, { headers: { 'content-location': path, location: `${onThread(run)}/stream` } })
  }
  const wait = async (request: CreateRequest, signal: AbortSignal) => {
    const { run, result } = await engine.wait(request, signal)
    const path = pathOf(request, run)
    const stop = request.body.on_disconnect === 'cancel' ? onAbort(signal, () => disconnected(request, run)) : () => {}
    const location = `${onThread(run)}/join`
    return late(async () => (await result.finally(stop)) ?? 'null', { headers: { 'content-location': path, location } })
  }
  const disconnected = (request: CreateRequest, run: runs.RunRow) =>
    void engine
      .cancel({
        thread_id: run.thread_id,
        run_id: run.run_id,
        action: 'interrupt',
        reason: 'the client disconnected (on_disconnect=cancel)',
        visible: request.visible,
        wait: false,
      })
      // It has ended: there is nothing to cancel.
      .catch(() => {})

  return [
    on(contract.createRun, ({ params, body, ...asked }) => create(asking(params.thread_id, body, asked, 'run'))),
    on(contract.streamRun, ({ params, query, body, ...asked }) =>
      stream(asking(params.thread_id, body, asked, 'run'), query.namespace, asked.signal),
    ),
    on(contract.waitRun, ({ params, body, ...asked }) =>
      wait(asking(params.thread_id, body, asked, 'run'), asked.signal),
    ),
    on(stateless.createStatelessRun, ({ body, ...asked }) => create(asking(null, body, asked, 'run'))),
    on(stateless.streamStatelessRun, ({ query, body, ...asked }) =>
      stream(asking(null, body, asked, 'run'), query.namespace, asked.signal),
    ),
    on(stateless.waitStatelessRun, ({ body, ...asked }) => wait(asking(null, body, asked, 'run'), asked.signal)),
    on(stateless.createRunBatch, async ({ body, ...asked }) => {
      const requests = body.map((one, i) => asking(null, one, asked, `batch/${body.length}/${i}`))
      return Promise.all(requests.map(async (request) => (await engine.create(request)).run))
    }),
  ]
}

function reading({ db }: HttpDeps): Route[] {
  const seen = (threadId: string, visible: Sql) => threads.get(db, threadId, visible)
  return [
    on(contract.listRuns, async ({ params, query, visible }) => {
      const rows = await runs.list(db, params.thread_id, query, visible)
      if (rows.length === 0) await seen(params.thread_id, visible)
      return query.select === undefined ? rows : rows.map((row) => pick(row, query.select as (keyof runs.RunRow)[]))
    }),
    on(contract.getRun, async ({ params, visible }) => {
      const run = await runs.get(db, params.thread_id, params.run_id, visible)
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

function following({ db, engine }: HttpDeps): Route[] {
  const join = async (
    run: { thread_id: string | null; run_id: string },
    query: JoinQuery,
    asked: Asked & { signal: AbortSignal },
  ) => {
    const { signal, visible } = asked
    const lastEventId = asked.headers.get('last-event-id')
    const joined = await engine.joinStream(run, { lastEventId, wanted: wantedOf(query), visible, signal })
    const { thread_id, run_id } = joined.run
    const source = cancelOnLeave(
      joined.events,
      signal,
      query.cancel_on_disconnect,
      () =>
        void engine
          .cancel({
            thread_id,
            run_id,
            action: 'interrupt',
            reason: 'a client disconnected (cancel_on_disconnect)',
            visible,
            wait: false,
          })
          .catch(() => {}),
    )
    const path = run.thread_id === null ? `/runs/${run_id}` : `/threads/${thread_id}/runs/${run_id}`
    return sse(source, { headers: { location: `${path}/stream`, 'content-location': path } })
  }
  return [
    on(contract.joinRun, async ({ params, query, visible, signal }) => {
      const run = await runs.get(db, params.thread_id, params.run_id, visible)
      if (run === undefined) throw noRun(params.run_id)
      const path = `/threads/${params.thread_id}/runs/${params.run_id}`
      const cancel = () =>
        void engine
          .cancel({
            ...params,
            action: 'interrupt',
            reason: 'a client disconnected (cancel_on_disconnect)',
            visible,
            wait: false,
          })
          .catch(() => {})
      const stop = query.cancel_on_disconnect ? onAbort(signal, cancel) : () => {}
      return late(async (gone) => (await engine.join(params, visible, gone).finally(stop)) ?? 'null', {
        headers: { location: `${path}/join`, 'content-location': path },
      })
    }),
    on(contract.joinRunStream, ({ params, query, ...asked }) => join(params, query, asked)),
    on(stateless.joinStatelessRunStream, ({ params, query, ...asked }) =>
      join({ thread_id: null, ...params }, query, asked),
    ),
    on(streamThread, async ({ params, query, headers, visible, signal }) => {
      await threads.get(db, params.thread_id, visible)
      const modes = query.stream_mode
      return sse(
        await engine.threadStream(params.thread_id, { lastEventId: headers.get('last-event-id'), modes, signal }),
      )
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
const onThread = (run: runs.RunRow): string => `/threads/${run.thread_id}/runs/${run.run_id}`

const pathOf = (request: CreateRequest, run: runs.RunRow): string =>
  request.thread_id === null ? `/runs/${run.run_id}` : `/threads/${run.thread_id}/runs/${run.run_id}`

const wantedOf = (query: {
  stream_mode?: readonly string[] | undefined
  namespace?: readonly string[] | undefined
  namespaces?: readonly string[] | undefined
  checkpoint_id?: string | undefined
}) => {
  const namespaces = query.namespace ?? query.namespaces
  return {
    ...(query.stream_mode !== undefined && { modes: query.stream_mode }),
    ...(namespaces !== undefined && { namespaces }),
    ...(query.checkpoint_id !== undefined && { checkpoint_id: query.checkpoint_id }),
  }
}

function asking(threadId: string | null, body: RunCreate, asked: Asked, what: string): CreateRequest {
  const key = asked.headers.get('idempotency-key')
  if (key !== null && !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new ApiError('validation_failed', 'Idempotency-Key must be 1 to 255 visible ASCII characters.')
  }
  return {
    thread_id: threadId,
    body,
    visible: asked.visible,
    configurable: fromHeaders(asked.headers),
    ...(key !== null && {
      idempotency: {
        key: `${key} ${what.startsWith('batch') ? what : ''}`.trimEnd(),
        bodyHash: hashOf(threadId ?? what, asked.text),
      },
    }),
  }
}

/** Headers that are never config: they hold secrets. */
const SECRET = new Set(['x-api-key', 'x-tenant-id', 'x-service-key'])

/** `x-*` headers and the user agent become `config.configurable`, in lower case. */
function fromHeaders(headers: Headers): Record<string, string> {
  const config: Record<string, string> = {}
  for (const [name, value] of headers) {
    if (name === 'user-agent' || (name.startsWith('x-') && !SECRET.has(name))) config[name] = value
  }
  return config
}

function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act()
  else signal.addEventListener('abort', act, { once: true })
  return () => signal.removeEventListener('abort', act)
}

/** The events as they are; when the reader leaves before their end and it was asked for, the run is cancelled. */
const cancelOnLeave = <T>(
  events: AsyncGenerator<T, void, undefined>,
  signal: AbortSignal,
  wanted: boolean,
  cancel: () => void,
): AsyncGenerator<T, void, undefined> => (wanted ? watched(events, signal, cancel) : events)

async function* watched<T>(events: AsyncGenerator<T, void, undefined>, signal: AbortSignal, cancel: () => void) {
  const stop = onAbort(signal, cancel)
  let complete = false
  try {
    for await (const event of events) yield event
    complete = true
  } finally {
    stop()
    if (!complete && !signal.aborted) cancel()
  }
}
