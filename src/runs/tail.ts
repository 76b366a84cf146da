// One thread as this process follows it. In charge of one bus subscription however many follow, of closing every gap from
// the log, and of reading the log once for all who want it; never the source of an event itself.

import type { Bus, BusMessage } from '../bus/bus.ts'
import type { Db } from '../db/db.ts'
import * as events from '../db/events.ts'
import { ApiError } from '../errors.ts'
import { decodeBatch, type LoggedEvent } from './log.ts'

/** The bus channel of a thread. */
export const threadChannel = (threadId: string): string => `thread:${threadId}`

/** Said when a run ended, besides the events of its last batch. */
export interface Ended {
  ended: string
  status: string
}

/** Said when the thread was deleted, to those who asked to be told. */
export interface Gone {
  gone: true
}

/** Follows for one who waits by itself. */
export interface Listener {
  /** True when there may be something to take. */
  ready(): boolean
  /** What comes next, perhaps nothing; undefined once everything closes. To be read to its end before the next. */
  take(): Promise<Iterable<LoggedEvent | Ended | Gone> | undefined>
  close(): void
}

/** A follower that leaves more than this unread reads it from the log later instead. */
const MAX_BUFFERED = 1024 * 1024
interface Follower {
  after: number
  behind: boolean
  untilGone: boolean
  /** Runs whose end it was told of. */
  ends: Set<string> | undefined
  queue: (events.EventBatch | Ended | Gone)[]
  buffered: number
  wake: () => void
}

/** A follower that wants the log from where it is. */
interface Want {
  after: number
  resolve: (page: events.Page) => void
  reject: (error: unknown) => void
}

/** One thread that is followed in this process, by however many. */
export class Shared {
  readonly threadId: string
  readonly ready: Promise<void>
  /** Who waits for the ends of runs. */
  waiting: Map<string, Set<(status: string | undefined) => void>> | undefined
  users = 0
  #db: Db
  /** Replaced, never changed. */
  #followers: readonly Follower[] = []
  #wants: Want[] = []
  #reading: { stale: boolean } | undefined
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

  isFollowedUntilGone(): boolean {
    return this.#followers.some(({ untilGone }) => untilGone)
  }

  /** The thread is deleted: nothing more will come. */
  vanish(): void {
    this.#push({ gone: true }, 0)
  }

  /** What every follower has seen at least; nothing new matters to a tail without followers. */
  position(): number {
    return Math.min(Number.MAX_SAFE_INTEGER, ...this.#followers.map(({ after }) => after))
  }

  #hear(message: BusMessage): void {
    const { first, last, run_id, at, ended, status } = message.hint
    const isBatch = typeof first === 'number' && typeof last === 'number' && typeof at === 'number'
    // Where nobody follows, the body need not be made.
    const body = this.#followers.length > 0 ? message.body : undefined
    if (isBatch && typeof run_id === 'string') {
      if (body === undefined) this.missed()
      else this.#push({ first_seq: first, last_seq: last, run_id, at, batch: body }, body.length)
    }
    if (typeof ended === 'string' && typeof status === 'string') this.end({ ended, status }, body === undefined)
  }

  /** A run has ended. `inLog`: its last events did not come along, they are in the log. */
  end(ended: Ended, inLog = true): void {
    for (const told of this.waiting?.get(ended.ended) ?? []) told(ended.status)
    if (inLog) this.#outdate()
    for (const follower of this.#followers) {
      // A thread's followers are told by its log alone, and anybody once.
      if (follower.untilGone || follower.ends?.has(ended.ended)) continue
      follower.ends = (follower.ends ?? new Set()).add(ended.ended)
      follower.behind ||= inLog
      follower.queue.push(ended)
      follower.wake()
    }
  }

  #push(item: events.EventBatch | Gone, size: number): void {
    this.#outdate()
    for (const follower of this.#followers) {
      if (size > 0 && follower.buffered + size > MAX_BUFFERED) {
        follower.queue = follower.queue.filter((queued) => !('batch' in queued))
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
    this.#outdate()
    for (const follower of this.#followers) {
      follower.behind = true
      follower.wake()
    }
  }

  stop(): void {
    this.#stopped = true
    this.#unsubscribe?.()
    for (const follower of this.#followers) follower.wake()
    for (const waiting of [...(this.waiting?.values() ?? [])]) for (const told of [...waiting]) told(undefined)
  }

  async whenEnded(runId: string, signal?: AbortSignal): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      this.waiting ??= new Map()
      const waiting = this.waiting
      const told = waiting.get(runId) ?? new Set()
      waiting.set(runId, told)
      const done = (status: string | undefined) => {
        told.delete(tell)
        if (told.size === 0) waiting.delete(runId)
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
    { caughtUp, untilGone = false, signal }: { caughtUp: boolean; untilGone?: boolean; signal?: AbortSignal },
  ): AsyncGenerator<LoggedEvent | Ended | Gone, void, undefined> {
    let wake = () => {}
    const follower = this.#enter(after, { caughtUp, untilGone, wake: () => wake() })
    const abort = () => wake()
    signal?.addEventListener('abort', abort)
    try {
      while (!signal?.aborted && !this.#stopped) {
        if (follower.behind) yield* await this.#catchUp(follower)
        else if (follower.queue.length > 0) yield* this.#next(follower)
        else
          await new Promise<void>((resolve) => {
            wake = resolve
          })
      }
    } finally {
      signal?.removeEventListener('abort', abort)
      this.#leave(follower)
    }
  }

  listen(after: number, how: { untilGone: boolean; wake: () => void }): Listener {
    const follower = this.#enter(after, { caughtUp: false, ...how })
    return {
      ready: () => this.#stopped || follower.behind || follower.queue.length > 0,
      take: async () => {
        if (this.#stopped) return undefined
        return follower.behind ? this.#catchUp(follower) : this.#next(follower)
      },
      close: () => this.#leave(follower),
    }
  }

  #enter(after: number, how: { caughtUp: boolean; untilGone: boolean; wake: () => void }): Follower {
    const { caughtUp, untilGone, wake } = how
    const follower: Follower = { after, behind: !caughtUp, untilGone, ends: undefined, queue: [], buffered: 0, wake }
    this.#followers = this.#followers.concat(follower)
    return follower
  }

  #leave(follower: Follower): void {
    this.#followers = this.#followers.filter((one) => one !== follower)
  }

  async #catchUp(follower: Follower): Promise<Iterable<LoggedEvent>> {
    follower.behind = false
    const page = await this.read(follower.after)
    if (page.more) follower.behind = true
    return advance(follower, page.batches)
  }

  /** What is first in the queue. */
  #next(follower: Follower): Iterable<LoggedEvent | Ended | Gone> {
    const item = follower.queue.shift()
    if (item === undefined) return []
    if (!('batch' in item)) return [item]
    follower.buffered -= item.batch.length
    if (item.first_seq <= follower.after + 1) return advance(follower, [item])
    // A gap: what lies between is in the log, and this batch with it, since it was sent after its commit.
    follower.behind = true
    return []
  }

  /** The log after a seq. However many ask, one read is under way, and the next one serves all who came meanwhile. */
  read(after: number): Promise<events.Page> {
    return new Promise((resolve, reject) => {
      this.#wants.push({ after, resolve, reject })
      this.#readOn()
    })
  }

  /** Something was said since the reads under way began: they may not hold it, so nobody new waits for them. */
  #outdate(): void {
    if (this.#reading) this.#reading.stale = true
  }

  #readOn(): void {
    if (this.#wants.length === 0 || (this.#reading && !this.#reading.stale)) return
    const mine = { stale: false }
    this.#reading = mine
    const wants = this.#wants.sort((a, b) => a.after - b.after)
    this.#wants = []
    void this.#serve(wants).finally(() => {
      if (this.#reading !== mine) return
      this.#reading = undefined
      this.#readOn()
    })
  }

  /** Serves readers in the order of their places: each page goes to all who are on it. */
  async #serve(wants: readonly Want[]): Promise<void> {
    let left = wants
    while (left[0] !== undefined) {
      try {
        const page = await events.after(this.#db, this.threadId, left[0].after)
        const end = page.more ? (page.batches.at(-1)?.last_seq ?? 0) : Number.POSITIVE_INFINITY
        // The first is always on it, even if what it wants was pruned.
        const served = left.filter(({ after }, i) => i === 0 || after < end)
        for (const { resolve } of served) resolve(page)
        left = left.slice(served.length)
      } catch (error) {
        for (const { reject } of left) reject(error)
        return
      }
    }
  }
}

function* advance(follower: Follower, batches: readonly events.EventBatch[]): Generator<LoggedEvent, void, undefined> {
  for (const batch of batches) {
    if (batch.last_seq <= follower.after) continue
    for (const event of decodeBatch(batch, follower.after)) {
      follower.after = event.seq
      yield event
    }
  }
}
