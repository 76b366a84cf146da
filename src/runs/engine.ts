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
import {
  followRun,
  followThread,
  fromOf,
  type Result,
  resultText,
  type SentEvent,
  type ThreadMode,
  type Wanted,
  waitForResult,
} from './join.ts'
import { createPressure } from './pressure.ts'
import { createHangUps, createSession, type Session } from './session.ts'
import { createTails, type Tail } from './tails.ts'
import { webhookOf } from './webhooks.ts'

const ASK_AFTER_MS = 1_000

/** Given as the reason of an abort, because making the usual one, with its stack, costs more than all else here. */
const LEFT = Symbol('left')

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
  /** Creates a run and waits for it; `result` is undefined when the signal aborted first. */
  wait(request: CreateRequest, signal: AbortSignal): Promise<Started & { result: Promise<Text | undefined> }>
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
  /** Resolves when a burst of creations is over, or has been waited for long enough. */
  relief(): Promise<void>
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
  const { registry, durability, threadTtl, webhooks } = deps
  const creating = { db, registry, durability, threadTtl, webhooks, known: new Map() }
  const cancelling = { db, bus, fail: deps.fail }
  const locals = new Map<string, Set<(result: Result) => void>>()
  const pressure = createPressure()
  const isHere = (run: RunRef): boolean => deps.worker()?.runs(run) ?? false

  /** Hears the result of a run from this process's worker, if it is the one that runs it. */
  function listen(runId: string): { result: Promise<Result>; stop: () => void } {
    const told = locals.get(runId) ?? new Set()
    locals.set(runId, told)
    let tell: (result: Result) => void = () => {}
    const result = new Promise<Result>((resolve) => {
      tell = resolve
    })
    told.add(tell)
    const stop = () => {
      told.delete(tell)
      if (told.size === 0 && locals.get(runId) === told) locals.delete(runId)
    }
    return { result, stop }
  }
  const hungUp = new AbortController()
  // Each follower of a thread listens.
  setMaxListeners(0, hungUp.signal)
  const hangUps = createHangUps()
  let closed = false
  /** Breaks off each wait. */
  const breakOffs = new Set<() => void>()
  let readers = 0
  let whenNone: () => void = () => {}
  /** Counts who follows or waits for a run, because a server that shuts down lets them come to the end. */
  const left = () => {
    readers--
    if (readers === 0) whenNone()
  }
  const counted = { enter: () => void readers++, leave: left }

  /** Creates the run; `before` is what must be listening before it may start. */
  async function start(request: CreateRequest, ids: RunRef, before: Promise<unknown>, begin = true): Promise<Creation> {
    if (hungUp.signal.aborted) throw new ApiError('shutting_down')
    const reservation = begin && request.body.after_seconds === 0 ? deps.worker()?.reserve(ids.run_id) : undefined
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
  async function leave(request: CreateRequest): Promise<Creation> {
    const done = pressure.enter()
    try {
      return await start(request, newIds(request.thread_id), Promise.resolve(), !pressure.high())
    } finally {
      done()
    }
  }

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
    return { run, events: (signal) => followRun(tail, run, { after, gap, caughtUp: false, wanted, counted, signal }) }
  }

  async function waitOn(tail: Tail, run: RunRef, visible: Sql, signal: AbortSignal): Promise<Text | undefined> {
    const result = await waitForResult({ db }, tail, run, visible, signal)
    return result === undefined ? undefined : resultText(result)
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
      return { run, replayed: false, after, events: (signal) => followRun(open, run, { ...options, counted, signal }) }
    },

    async wait(request, signal) {
      const ids = newIds(request.thread_id)
      const local = listen(ids.run_id)
      let creation: Creation
      try {
        creation = await start(request, ids, Promise.resolve())
      } catch (error) {
        local.stop()
        throw error
      }
      const { run } = creation
      const result = waitFor(run, creation.claimed !== undefined, local.result, request.visible, signal).finally(
        local.stop,
      )
      result.catch(() => {})
      return { ...creation, result }
    },

    knows: (run, visible) => visible === all && isHere(run),

    async join(run, visible, signal) {
      const local = listen(run.run_id)
      return waitFor(run, isHere(run), local.result, visible, signal).finally(local.stop)
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

    settled(runId, result) {
      for (const tell of locals.get(runId) ?? []) tell(result)
    },

    relief: pressure.relief,
    hangUp() {
      hungUp.abort(LEFT)
      hangUps.hangUp()
    },
    hangingUp: () => hungUp.signal.aborted,

    async readersGone(ms, hurry) {
      if (readers === 0 || hurry.aborted) return
      await new Promise<void>((resolve) => {
        whenNone = resolve
        setTimeout(resolve, ms).unref()
        hurry.addEventListener('abort', () => resolve())
      })
    },

    close() {
      closed = true
      for (const breakOff of breakOffs) breakOff()
      tails.close()
    },
  }

  /** The result of a run: from this process's worker if it runs it, else from the database. */
  async function waitFor(
    run: RunRef,
    here: boolean,
    local: Promise<Result>,
    visible: Sql,
    signal: AbortSignal,
  ): Promise<Text | undefined> {
    // A run that runs here is told of by its worker; only one that takes long enough to have moved is asked after.
    let asking: NodeJS.Timeout | undefined
    const gone = new AbortController()
    let breakOff: () => void = () => {}
    let leave: () => void = () => {}
    readers++
    try {
      return await new Promise<Text | undefined>((resolve, reject) => {
        const ask = () => void remote(run, visible, gone.signal).then(resolve, reject)
        breakOff = () => reject(new ApiError('shutting_down'))
        leave = () => resolve(undefined)
        breakOffs.add(breakOff)
        if (closed) return breakOff()
        signal.addEventListener('abort', leave)
        if (signal.aborted) return leave()
        local.then(resultText).then(resolve, reject)
        if (here) asking = setTimeout(ask, ASK_AFTER_MS)
        else ask()
      })
    } finally {
      left()
      clearTimeout(asking)
      breakOffs.delete(breakOff)
      signal.removeEventListener('abort', leave)
      gone.abort(LEFT)
    }
  }

  async function remote(run: RunRef, visible: Sql, signal: AbortSignal): Promise<Text | undefined> {
    const tail = await tails.open(run.thread_id)
    try {
      return await waitOn(tail, run, visible, signal)
    } finally {
      tail.close()
    }
  }
}
