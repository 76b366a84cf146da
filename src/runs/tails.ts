// Following threads' event logs: which threads are followed in this process, and what lost messages did not say, asked of
// the database for all of them at once. What happens on one thread is in tail.ts.

import type { Bus } from '../bus/bus.ts'
import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import { isUnreachable } from '../db/health.ts'
import * as runs from '../db/runs.ts'
import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import type { LoggedEvent } from './log.ts'
import { type Ended, type Gone, type Listener, Shared } from './tail.ts'

export { type Ended, type Gone, type Listener, threadChannel } from './tail.ts'

export interface Tail {
  /** The thread's events after `after`, in order, and word of runs that ended; goes on until `signal` aborts or the
   *  iterator is closed. `caughtUp` says that nothing after `after` was in the log when the tail was opened; `untilGone` that
   *  the thread is there and that its end is to be told. */
  follow(
    after: number,
    options: { caughtUp: boolean; untilGone?: boolean; signal?: AbortSignal },
  ): AsyncGenerator<LoggedEvent | Ended | Gone, void, undefined>
  /** The same for one who rests for long: `wake` is called when there may be something to take. Close it. */
  listen(after: number, how: { untilGone: boolean; wake: () => void }): Listener
  /** Resolves when the run has ended, with its status; undefined when the signal aborts first. Rejects with
   *  `shutting_down` when everything closes. While it is waited for, followers are told of that end however it is noticed.
   *  `ask` has the database asked soon: the run may have ended before. */
  ended(runId: string, options: { ask: boolean; signal?: AbortSignal }): Promise<string | undefined>
  /** A page of the thread's log after a seq, read once for all who ask at a time. */
  read(after: number): Promise<events.Page>
  close(): void
}

export interface Tails {
  /** Resolves when what happens on the thread from now on will be heard, or found in the log where the bus is slow. Close
   *  what you opened. */
  open(threadId: string): Promise<Tail>
  close(): void
}

export function createTails(
  deps: { db: Db; bus: Bus; observe: Observe },
  options: { pollMs: number } = { pollMs: 1_000 },
): Tails {
  const threads = new Map<string, Shared>()
  // A message may be lost between processes, and of a deleted thread there is none: only the database knows.
  const timer = setInterval(() => void poll(), options.pollMs)
  timer.unref()
  let closed = false
  let polling = false
  let asking = false
  let askAgain = false

  async function poll(): Promise<void> {
    if (polling || threads.size === 0) return
    polling = true
    try {
      const watched = [...threads.values()]
      const positions = watched.map((shared) => shared.position())
      const ids = watched.map((shared) => shared.threadId)
      for (const { thread_id } of await events.grown(deps.db, ids, positions)) threads.get(thread_id)?.missed()
      const followed = watched.flatMap((shared) => (shared.isFollowedUntilGone() ? [shared.threadId] : []))
      if (followed.length > 0)
        for (const { thread_id } of await events.gone(deps.db, followed)) threads.get(thread_id)?.vanish()
      await lookForEnds()
    } catch (error) {
      if (!isUnreachable(error)) deps.observe({ kind: 'background_failed', service: 'tails', error })
    } finally {
      polling = false
    }
  }

  async function lookForEnds(): Promise<void> {
    const watched = [...threads.values()]
    const awaited = watched.flatMap((shared) => [...(shared.waiting?.keys() ?? [])])
    if (awaited.length === 0) return
    const done = new Map((await runs.ended(deps.db, awaited)).map((row) => [row.run_id, row.status]))
    if (done.size === 0) return
    for (const shared of watched) {
      for (const runId of shared.waiting?.keys() ?? []) {
        const status = done.get(runId)
        if (status !== undefined) shared.end({ ended: runId, status })
      }
    }
  }

  /** Looks for ends soon: one statement for everybody who asks while the one before is under way. */
  function ask(): void {
    askAgain = true
    if (!asking) void askOn()
  }

  async function askOn(): Promise<void> {
    asking = true
    while (askAgain && !closed) {
      await new Promise(setImmediate)
      askAgain = false
      // Who gets no answer now is answered by the poll.
      await lookForEnds().catch(() => {})
    }
    asking = false
  }

  function leave(shared: Shared): void {
    if (--shared.users > 0) return
    threads.delete(shared.threadId)
    shared.stop()
  }

  const use = { ask, leave }
  return {
    async open(threadId) {
      if (closed) throw new ApiError('shutting_down')
      let shared = threads.get(threadId)
      if (shared === undefined) {
        shared = new Shared(threadId, deps)
        threads.set(threadId, shared)
      }
      shared.users++
      const tail = new Opened(shared, use)
      try {
        await shared.ready
      } catch (error) {
        tail.close()
        throw error
      }
      return tail
    },
    close() {
      closed = true
      clearInterval(timer)
      for (const shared of threads.values()) shared.stop()
      threads.clear()
    },
  }
}

/** A thread as one of its users has it. */
class Opened implements Tail {
  #shared: Shared
  #use: { ask(): void; leave(shared: Shared): void }
  #isOpen = true

  constructor(shared: Shared, use: { ask(): void; leave(shared: Shared): void }) {
    this.#shared = shared
    this.#use = use
  }

  follow(after: number, how: Parameters<Tail['follow']>[1]): ReturnType<Tail['follow']> {
    return this.#shared.follow(after, how)
  }

  listen(after: number, how: Parameters<Tail['listen']>[1]): Listener {
    return this.#shared.listen(after, how)
  }

  ended(runId: string, { ask, signal }: { ask: boolean; signal?: AbortSignal }): Promise<string | undefined> {
    const ended = this.#shared.whenEnded(runId, signal)
    if (ask) this.#use.ask()
    return ended
  }

  read(after: number): Promise<events.Page> {
    return this.#shared.read(after)
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#use.leave(this.#shared)
  }
}
