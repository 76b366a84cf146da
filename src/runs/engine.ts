// The engine: what the HTTP layer asks of runs. In charge of tying creating, following and waiting together so that
// whoever starts a run hears all of it; the parts do the work.

import { setMaxListeners } from 'node:events'
import type { Bus } from '../bus/bus.ts'
import type { WebhookConfig } from '../config.ts'
import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import type { Claimed } from '../db/queue.ts'
import type * as runs from '../db/runs.ts'
import { all, type Sql } from '../db/sql.ts'
import type { ThreadTtl } from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import type { Text } from '../executor/protocol.ts'
import type { Fail } from '../failpoints.ts'
import type { Registry } from '../graph/registry.ts'
import type { Observe } from '../observe.ts'
import { announce, type CancelRequest, cancelRun, cancelRuns } from './cancel.ts'
import { type CreateRequest, type Creation, createRun, newIds, readAssistant } from './create.ts'
import { followRun, followThread, fromOf, type Result, type SentEvent, type ThreadMode, type Wanted } from './join.ts'
import { createHangUps, createSession, type Session } from './session.ts'
import { createTails } from './tails.ts'
import { createWaits } from './waits.ts'
import { webhookOf } from './webhooks.ts'

/** A slot of this process's worker, kept for a run that is being created. */
export interface Reservation {
  readonly worker_id: string
  start(claimed: Claimed): void
  release(): void
}

type RunRef = { run_id: string; thread_id: string }

/** This process's worker, where it has one. */
export interface LocalWorker {
  reserve(runId: string): Reservation | undefined
  /** True while the run is executed here: its end will be told through `settled`, unless it moves to another worker. */
  runs(run: RunRef): boolean
  /** Resolves when nothing that a run of this process wrote on the thread waits to be stored. */
  flushed(threadId: string): Promise<void>
}

/** A run that was started, with what it will say. */
export interface Started {
  run: runs.RunRow
  replayed: boolean
  /** The thread's last event before the run was made. */
  after: number
}

/** Begins to follow; must be called once, and ends when the signal aborts. */
export type Events = (signal: AbortSignal) => AsyncGenerator<SentEvent, void, undefined>

export interface Engine {
  /** Creates a run and leaves it to itself. */
  create(request: CreateRequest): Promise<Started>
  /** Creates runs, or none where one asks for an assistant that does not exist, or names a webhook that it must not. */
  createMany(requests: readonly CreateRequest[]): Promise<Started[]>
  /** Creates a run and follows it from its first event. */
  stream(request: CreateRequest, wanted: Wanted): Promise<Started & { events: Events }>
  /** Creates a run and waits for it. `result`, to be called once and at once, gives undefined when the signal aborted first. */
  wait(request: CreateRequest): Promise<Started & { result(signal: AbortSignal): Promise<Text | undefined> }>
  /** Whether it is certain, without asking the database, that the run exists and may be seen. */
  knows(run: RunRef, visible: Sql): boolean
  /** Waits for a run that exists. */
  join(run: { thread_id: string; run_id: string }, visible: Sql, signal: AbortSignal): Promise<Text | undefined>
  /** Follows a run that exists; throws `run_not_found`. */
  joinStream(
    run: { thread_id: string | null; run_id: string },
    options: { lastEventId: string | null; wanted: Wanted; visible: Sql },
  ): Promise<{ run: RunRef; events: Events }>
  /** Follows a thread over its runs; the caller has checked that the thread may be seen. */
  threadStream(threadId: string, options: { lastEventId: string | null; modes: readonly ThreadMode[] }): Promise<Events>
  /** A connection of the thread protocol. */
  session(threadId: string, visible: Sql, options?: { waits: boolean }): Session
  /** Cancels a run; with `wait`, resolves when it has ended. */
  cancel(request: CancelRequest & { wait: boolean }, signal?: AbortSignal): Promise<void>
  /** Cancels a run that its client has left. Not once this server hangs up by itself: then nobody has left. */
  abandon(request: CancelRequest): Promise<void>
  cancelMany(
    which: Parameters<typeof runs.toCancel>[1],
    request: Omit<CancelRequest, 'thread_id' | 'run_id'>,
  ): Promise<void>
  /** Tells local waiters; called by the worker after the commit. */
  settled(runId: string, result: Result): void
  /** From now on no run is created, and it is the server that ends connections: those that follow threads at once. */
  hangUp(): void
  hangingUp(): boolean
  /** Resolves when nobody follows or waits for a run any more, or after `ms`, or when `hurry` aborts. */
  readersGone(ms: number, hurry: AbortSignal): Promise<void>
  /** Breaks off what still follows or waits: who reads goes on elsewhere. */
  close(): void
}

export function createEngine(deps: {
  db: Db
  bus: Bus
  registry: Registry
  observe: Observe
  durability: 'sync' | 'async' | 'exit'
  /** The time to live of threads that are made for runs. */
  threadTtl?: ThreadTtl | undefined
  /** Absent where webhooks are switched off. */
  webhooks?: WebhookConfig | undefined
  /** Asked late, because the worker is made after the engine. */
  worker: () => LocalWorker | undefined
  /** Called at failpoints, in tests. */
  fail?: Fail | undefined
}): Engine {
  const { db, bus, observe } = deps
  const tails = createTails({ db, bus, observe })
  const waits = createWaits({ db, tails })
  const { registry, durability, threadTtl, webhooks } = deps
  const creating = { db, registry, durability, threadTtl, webhooks, known: new Map() }
  const cancelling = { db, bus, fail: deps.fail }
  const isHere = (run: RunRef): boolean => deps.worker()?.runs(run) ?? false

  const hungUp = new AbortController()
  // Each follower of a thread listens.
  setMaxListeners(0, hungUp.signal)
  const hangUps = createHangUps()
  /** Creates the run; `before` is what must be listening before it may start. */
  async function start(request: CreateRequest, ids: RunRef, before: Promise<unknown>): Promise<Creation> {
    if (hungUp.signal.aborted) throw new ApiError('shutting_down')
    const reservation = request.body.after_seconds === 0 ? deps.worker()?.reserve(ids.run_id) : undefined
    let creation: Creation
    try {
      const made = createRun(creating, request, ids, reservation?.worker_id ?? null)
      ;[creation] = await Promise.all([made, before.then(() => undefined)])
      if (deps.fail) await deps.fail('after_insert_before_reply')
    } catch (error) {
      reservation?.release()
      throw error
    }
    if (creation.claimed !== undefined && reservation !== undefined) reservation.start(creation.claimed)
    else reservation?.release()
    const { run } = creation
    announce(bus, creation.cancelled)
    if (!creation.replayed) {
      observe({
        kind: 'run_created',
        run_id: run.run_id,
        thread_id: run.thread_id,
        strategy: run.multitask_strategy,
        ...(creation.waits !== undefined && { waits: creation.waits }),
      })
      if (creation.claimed === undefined)
        bus.publish('runs', { hint: { in_ms: Math.ceil(request.body.after_seconds * 1_000) } })
    }
    return creation
  }

  /** Creates a run that nobody waits for here. */
  const leave = (request: CreateRequest): Promise<Creation> =>
    start(request, newIds(request.thread_id), Promise.resolve())

  /** Follows a run that exists and may be seen; undefined where there is none. One statement for each reader. */
  async function joinStream(
    asked: { run_id: string; thread_id: string | null },
    from: events.From,
    visible: Sql,
    wanted: Wanted,
  ): Promise<{ run: RunRef; events: Events } | undefined> {
    const found = await events.startOfRun(db, asked, from, visible)
    if (found === undefined) return undefined
    const { after, gap, ...run } = found
    const tail = await tails.open(run.thread_id)
    return {
      run,
      events: (signal) => followRun(tail, run, { after, gap, caughtUp: false, wanted, counted: waits.counted, signal }),
    }
  }

  return {
    create: leave,

    async createMany(requests) {
      for (const { body } of requests) if (body.webhook !== undefined) webhookOf(body.webhook, deps.webhooks)
      const asked = new Map(requests.map((request) => [request.body.assistant_id, request]))
      await Promise.all([...asked.values()].map((request) => readAssistant(db, creating, request)))
      const [first, ...others] = requests
      if (first === undefined) return []
      return [await leave(first), ...(await Promise.all(others.map(leave)))]
    },

    async stream(request, wanted) {
      const ids = newIds(request.thread_id)
      const tail = tails.open(ids.thread_id)
      let creation: Creation
      try {
        creation = await start(request, ids, tail)
      } catch (error) {
        void tail.then(
          (open) => open.close(),
          () => {},
        )
        throw error
      }
      const open = await tail
      if (creation.replayed) {
        open.close()
        const joined = await joinStream(creation.run, 'beginning', request.visible, wanted)
        if (joined === undefined) throw new ApiError('run_not_found')
        return { ...creation, events: joined.events }
      }
      const { run, after, claimed } = creation
      const options = { after, gap: false, caughtUp: claimed !== undefined, wanted }
      return {
        run,
        replayed: false,
        after,
        events: (signal) => followRun(open, run, { ...options, counted: waits.counted, signal }),
      }
    },

    async wait(request) {
      const ids = newIds(request.thread_id)
      const waiting = waits.enter(ids.run_id)
      let creation: Creation
      try {
        creation = await start(request, ids, Promise.resolve())
      } catch (error) {
        waiting.leave()
        throw error
      }
      const { run } = creation
      const isHere = creation.claimed !== undefined
      const { visible } = request
      return {
        ...creation,
        result: (signal) => waiting.result(run, { isHere, visible, signal }).finally(waiting.leave),
      }
    },

    knows: (run, visible) => visible === all && isHere(run),

    async join(run, visible, signal) {
      const waiting = waits.enter(run.run_id)
      return waiting.result(run, { isHere: isHere(run), visible, signal }).finally(waiting.leave)
    },

    async joinStream(run, options) {
      const joined = await joinStream(run, fromOf(options.lastEventId), options.visible, options.wanted)
      if (joined === undefined) throw new ApiError('run_not_found', `There is no run ${run.run_id}.`)
      return joined
    },

    async threadStream(threadId, { lastEventId, modes }) {
      if (hungUp.signal.aborted) throw new ApiError('shutting_down')
      const found = await events.startOfThread(db, threadId, fromOf(lastEventId))
      if (found === undefined) throw new ApiError('thread_not_found', `The thread ${threadId} does not exist.`)
      const tail = await tails.open(threadId)
      return (signal) => followThread(tail, { ...found, modes, caughtUp: false, signal, hungUp: hungUp.signal })
    },

    session(threadId, visible, options) {
      if (hungUp.signal.aborted) throw new ApiError('shutting_down')
      return createSession({ db, tails, hangUps }, threadId, visible, options)
    },

    async cancel(request, signal = new AbortController().signal) {
      if (!request.wait) return void (await cancelRun(cancelling, request))
      const tail = await tails.open(request.thread_id)
      const stop = new AbortController()
      try {
        const ended = tail.ended(request.run_id, { ask: false, signal: AbortSignal.any([signal, stop.signal]) })
        const plan = await cancelRun(cancelling, request)
        if (plan.wished.length > 0) await ended
      } finally {
        stop.abort()
        tail.close()
      }
    },

    async abandon(request) {
      if (!hungUp.signal.aborted) await cancelRun(cancelling, request)
    },

    cancelMany: (which, request) => cancelRuns(cancelling, which, request),

    settled: waits.settled,

    hangUp() {
      hungUp.abort()
      hangUps.hangUp()
    },
    hangingUp: () => hungUp.signal.aborted,

    readersGone: waits.over,
    close() {
      waits.close()
      tails.close()
    },
  }
}
