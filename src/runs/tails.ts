// Following threads' event logs. In charge of one bus subscription per thread and process however many clients join, of
// closing every gap from the log, and of noticing what lost messages did not say; never the source of an event itself.

import type { Bus, BusMessage } from '../bus/bus.ts'
import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import * as runs from '../db/runs.ts'
import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import { decodeBatch, type LoggedEvent } from './log.ts'

/** The bus channel of a thread. */
export const threadChannel = (threadId: string): string => `thread:${threadId}`

/** Said when a run ended, besides the events of its last batch. */
export interface Ended {
  ended: string
  status: string
}

export interface Tail {
  /** The thread's events after `after`, in order, and word of runs that ended; goes on until `signal` aborts or the
   *  iterator is closed. `caughtUp` says that nothing after `after` was in the log when the tail was opened. */
  follow(
    after: number,
    options: { caughtUp: boolean; signal?: AbortSignal },
  ): AsyncGenerator<LoggedEvent | Ended, void, undefined>
  /** Resolves when the run has ended, with its status; undefined when the signal aborts first. Rejects with
   *  `shutting_down` when everything closes. While it is waited for, followers are told of that end however it is noticed. */
  ended(runId: string, signal?: AbortSignal): Promise<string | undefined>
  close(): void
}

export interface Tails {
  /** Resolves when what happens on the thread from now on will be heard. Close what you opened. */
  open(threadId: string): Promise<Tail>
  close(): void
}

/** A follower that leaves more than this unread reads it from the log later instead. */
const MAX_BUFFERED = 1024 * 1024
const PAGE = 100

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

  async function poll(): Promise<void> {
    if (polling || threads.size === 0) return
    polling = true
    try {
      const watched = [...threads.values()]
      const positions = watched.map((shared) => shared.position())
      const grown = await events.grown(
        deps.db,
        watched.map((shared) => shared.threadId),
        positions,
      )
      for (const { thread_id } of grown) threads.get(thread_id)?.missed()
      const awaited = watched.flatMap((shared) => [...shared.waiting.keys()])
      if (awaited.length === 0) return
      const done = new Map((await runs.ended(deps.db, awaited)).map((row) => [row.run_id, row.status]))
      for (const shared of watched) {
        for (const runId of shared.waiting.keys()) {
          const status = done.get(runId)
          if (status !== undefined) shared.end({ ended: runId, status })
        }
      }
    } catch (error) {
      deps.observe({ kind: 'background_failed', service: 'tails', error })
    } finally {
      polling = false
    }
  }

  return {
    async open(threadId) {
      if (closed) throw new ApiError('shutting_down')
      let shared = threads.get(threadId)
      if (shared === undefined) {
        shared = new Shared(threadId, deps)
        threads.set(threadId, shared)
      }
      const mine = shared
      mine.users++
      let open = true
      const close = () => {
        if (!open) return
        open = false
        if (--mine.users > 0) return
        threads.delete(threadId)
        mine.stop()
      }
      try {
        await mine.ready
      } catch (error) {
        close()
        throw error
      }
      return {
        follow: (after, { caughtUp, signal }) => mine.follow(after, caughtUp, signal),
        ended: (runId, signal) => mine.whenEnded(runId, signal),
        close,
      }
    },
    close() {
      closed = true
      clearInterval(timer)
      for (const shared of threads.values()) shared.stop()
      threads.clear()
    },
  }
}

interface Follower {
  after: number
  behind: boolean
  queue: (events.EventBatch | Ended)[]
  buffered: number
  wake: () => void
}

class Shared {
  readonly threadId: string
  readonly ready: Promise<void>
  readonly waiting = new Map<string, Set<(status: string | undefined) => void>>()
  users = 0
  #db: Db
  #followers = new Set<Follower>()
  #reads = new Map<number, Promise<events.EventBatch[]>>()
  #unsubscribe: (() => void) | undefined
  #stopped = false

  constructor(threadId: string, deps: { db: Db; bus: Bus }) {
    this.threadId = threadId
    this.#db = deps.db
    this.ready = deps.bus
      .subscribe(
        threadChannel(threadId),
        (message) => this.#hear(message),
        () => this.missed(),
      )
      .then((unsubscribe) => {
        if (this.#stopped) unsubscribe()
        else this.#unsubscribe = unsubscribe
      })
  }

  /** What every follower has seen at least; nothing new matters to a tail without followers. */
  position(): number {
    return Math.min(Number.MAX_SAFE_INTEGER, ...[...this.#followers].map(({ after }) => after))
  }

  #hear({ hint, body }: BusMessage): void {
    const { first, last, run_id, ended, status } = hint
    if (typeof first === 'number' && typeof last === 'number' && typeof run_id === 'string') {
      if (body === undefined) this.missed()
      else this.#push({ first_seq: first, last_seq: last, run_id, batch: body }, body.length)
    }
    if (typeof ended !== 'string' || typeof status !== 'string') return
    if (body === undefined) this.end({ ended, status })
    else this.#say({ ended, status })
  }

  /** A run has ended, and its last events did not come along: they are in the log. */
  end(ended: Ended): void {
    this.missed()
    this.#say(ended)
  }

  #say(ended: Ended): void {
    for (const told of this.waiting.get(ended.ended) ?? []) told(ended.status)
    this.#push(ended, 0)
  }

  #push(item: events.EventBatch | Ended, size: number): void {
    this.#reads.clear()
    for (const follower of this.#followers) {
      if (size > 0 && follower.buffered + size > MAX_BUFFERED) {
        follower.queue = follower.queue.filter((queued) => 'ended' in queued)
        follower.buffered = 0
        follower.behind = true
      } else {
        follower.queue.push(item)
        follower.buffered += size
      }
      follower.wake()
    }
  }

  /** Something may have gone unheard: everybody looks into the log. */
  missed(): void {
    this.#reads.clear()
    for (const follower of this.#followers) {
      follower.behind = true
      follower.wake()
    }
  }

  stop(): void {
    this.#stopped = true
    this.#unsubscribe?.()
    for (const follower of this.#followers) follower.wake()
    for (const waiting of [...this.waiting.values()]) for (const told of [...waiting]) told(undefined)
  }

  async whenEnded(runId: string, signal?: AbortSignal): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      const told = this.waiting.get(runId) ?? new Set()
      this.waiting.set(runId, told)
      const done = (status: string | undefined) => {
        told.delete(tell)
        if (told.size === 0) this.waiting.delete(runId)
        signal?.removeEventListener('abort', stop)
        if (this.#stopped) reject(new ApiError('shutting_down'))
        else resolve(status)
      }
      const tell = (status: string | undefined) => done(status)
      const stop = () => done(undefined)
      told.add(tell)
      if (signal?.aborted || this.#stopped) stop()
      else signal?.addEventListener('abort', stop)
    })
  }

  async *follow(
    after: number,
    caughtUp: boolean,
    signal?: AbortSignal,
  ): AsyncGenerator<LoggedEvent | Ended, void, undefined> {
    const follower: Follower = { after, behind: !caughtUp, queue: [], buffered: 0, wake: () => {} }
    this.#followers.add(follower)
    const wake = () => follower.wake()
    signal?.addEventListener('abort', wake)
    try {
      while (!signal?.aborted && !this.#stopped) {
        if (follower.behind) {
          follower.behind = false
          const page = await this.#read(follower.after)
          if (page.length === PAGE) follower.behind = true
          for (const batch of page) yield* this.#advance(follower, batch)
          continue
        }
        const item = follower.queue.shift()
        if (item === undefined) {
          await new Promise<void>((resolve) => {
            follower.wake = resolve
            if (signal?.aborted || follower.behind) resolve()
          })
        } else if ('ended' in item) {
          yield item
        } else {
          follower.buffered -= item.batch.length
          // A gap: what lies between is in the log, and this batch with it, since it was sent after its commit.
          if (item.first_seq > follower.after + 1) follower.behind = true
          else yield* this.#advance(follower, item)
        }
      }
    } finally {
      signal?.removeEventListener('abort', wake)
      this.#followers.delete(follower)
    }
  }

  *#advance(follower: Follower, batch: events.EventBatch): Generator<LoggedEvent, void, undefined> {
    if (batch.last_seq <= follower.after) return
    for (const event of decodeBatch(batch, follower.after)) {
      follower.after = event.seq
      yield event
    }
  }

  /** Followers at the same place share one read, unless something was said since it began: it may not hold that. */
  #read(after: number): Promise<events.EventBatch[]> {
    const under = this.#reads.get(after)
    if (under !== undefined) return under
    const read = events.after(this.#db, this.threadId, after, PAGE).finally(() => {
      if (this.#reads.get(after) === read) this.#reads.delete(after)
    })
    this.#reads.set(after, read)
    return read
  }
}
