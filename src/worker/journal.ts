// Group commit. In charge of bringing everything that this worker's runs produce into the database in order: while one
// transaction commits, the next batch gathers. No timers; whoever appends is told when it is durable, and events go
// out on the bus only then.

import type { Bus, BusMessage } from '../bus/bus.ts'
import type { Db } from '../db/db.ts'
import { batchSize, createDeltas } from '../db/event-deltas.ts'
import { createHealth } from '../db/health.ts'
import { commit, type Entry, type Settlement } from '../db/journal.ts'
import { isOutage } from '../db/sqlstate.ts'
import { LeaseLost, RollbackWished } from '../errors.ts'
import type { StreamEvent } from '../executor/protocol.ts'
import type { Blob, CheckpointPut, Splice, WritesPut } from '../executor/stored.ts'
import type { Fail } from '../failpoints.ts'
import type { Observe } from '../observe.ts'
import { bytesOf, lengthOf } from '../pieces.ts'
import { encodeBatch, encodeBytes } from '../runs/log.ts'
import { threadChannel } from '../runs/tails.ts'

/** A run as its worker holds it. `seq` is the thread's last event id given out; only the journal moves it. */
export interface Held {
  readonly run_id: string
  readonly thread_id: string
  readonly epoch: number
  seq: number
}

/** What is appended at once is written in one transaction. */
export interface Append {
  events?: readonly StreamEvent[]
  put?: CheckpointPut
  writes?: WritesPut
  settle?: Omit<Settlement, 'last_seq'>
}

export interface Journal {
  /** Resolves when it is durable. Rejects when nothing was written: with `LeaseLost` when the run is no longer ours, else
   *  with what the database said; of that run, only its settlement is taken from then on. */
  append(held: Held, what: Append): Promise<void>
  /** Resolves when no checkpoint of the thread waits to be written. */
  flushed(threadId: string): Promise<void>
  /** Resolves when everything appended so far is settled one way or the other. */
  idle(): Promise<void>
}

/** The most that one statement is given to write, in bytes: it must stay far below what Postgres takes (a parameter is less
 *  than a gigabyte). What one run brings at once is not divided; the executor holds that to a mebibyte and one message. */
const MAX_BATCH_BYTES = 16 * 1024 * 1024

interface Pending {
  bytes: number
  events: StreamEvent[]
  puts: CheckpointPut[]
  writes: WritesPut[]
  settle: Omit<Settlement, 'last_seq'> | undefined
  done: Promise<void>
  resolve: () => void
  reject: (error: unknown) => void
}

export function createJournal(deps: {
  db: Db
  bus: Bus
  observe: Observe
  /** False once this worker's lease may have passed to others: then nothing more may be written. */
  trusted: () => boolean
  /** The most that one value of a checkpoint may take; absent, any size is stored. */
  maxValueBytes?: number
  /** Called at failpoints, in tests. */
  fail?: Fail | undefined
}): Journal {
  const health = createHealth('journal', deps.observe)
  let gathering = new Map<Held, Pending>()
  let committing = new Map<Held, Pending>()
  let running: Promise<void> | undefined
  // Of a run that lost something, nothing later may be stored but its end: a checkpoint would refer to what is missing.
  const refused = new WeakMap<Held, Error>()
  const deltas = new WeakMap<Held, ReturnType<typeof createDeltas>>()

  async function drain(): Promise<void> {
    // A turn of the event loop lets what arrived together be written together.
    await new Promise(setImmediate)
    while (gathering.size > 0) {
      ;[committing, gathering] = divide(gathering)
      const batch = [...committing]
      const entries = batch.map(([held, pending]) => {
        const store = deltas.get(held) ?? createDeltas(encodeBytes)
        deltas.set(held, store)
        return entryOf(held, pending, store)
      })
      const failures = await persist(entries)
      batch.forEach(([held, pending], i) => {
        const failure = failures[i]
        if (failure !== undefined) {
          refuse(held, pending, failure)
        } else {
          publish(entries[i] as Sending)
          pending.resolve()
        }
      })
      committing = new Map()
    }
    running = undefined
  }

  /** Gives, for each entry, why it was not written. Waits out an outage of the database for as long as the lease lasts. */
  async function persist(entries: readonly Entry[]): Promise<(Error | undefined)[]> {
    for (let wait = 50; ; wait = Math.min(wait * 2, 1_000)) {
      if (!deps.trusted()) return entries.map(() => new LeaseLost('the lease of this worker has run out'))
      try {
        if (deps.fail) await failBefore(deps.fail, entries)
        const written = await commit(deps.db, entries)
        health.worked()
        if (deps.fail) await failAfter(deps.fail, entries)
        return entries.map(({ run_id, epoch }, i) => {
          if (!written.has(i)) return new LeaseLost(`run ${run_id} is no longer held at epoch ${epoch}`)
          return written.get(i) === 'unsettled' ? new RollbackWished(`run ${run_id} is to be rolled back`) : undefined
        })
      } catch (error) {
        if (!isOutage(error)) return entries.length === 1 ? [error as Error] : oneByOne(entries)
        health.failed(error)
        await new Promise((resolve) => setTimeout(resolve, wait))
      }
    }
  }

  /** A statement that fails for what one run wrote must not take the other runs of the batch with it. */
  async function oneByOne(entries: readonly Entry[]): Promise<(Error | undefined)[]> {
    const failures: (Error | undefined)[] = []
    for (const entry of entries) failures.push((await persist([entry]))[0])
    return failures
  }

  function refuse(held: Held, pending: Pending, failure: Error): void {
    refused.set(held, failure)
    pending.reject(failure)
    gathering.get(held)?.reject(failure)
    gathering.delete(held)
  }

  function publish(entry: Sending): void {
    const { events, settle } = entry
    const ended: BusMessage['hint'] = settle === undefined ? {} : { ended: entry.run_id, status: settle.status }
    if (events !== undefined) {
      const { first_seq: first, last_seq: last, at } = events
      const hint = { run_id: entry.run_id, first, last, at, ...ended }
      deps.bus.publish(threadChannel(entry.thread_id), late(hint, entry.sent))
    } else if (settle !== undefined) {
      deps.bus.publish(threadChannel(entry.thread_id), { hint: ended })
    }
  }

  return {
    append(held, what) {
      const large = refused.has(held) ? undefined : tooLarge(what, deps.maxValueBytes ?? Number.POSITIVE_INFINITY)
      if (large !== undefined) {
        refused.set(held, large)
        return Promise.reject(large)
      }
      const failure = refused.get(held)
      if (failure !== undefined && what.settle === undefined) return Promise.reject(failure)
      let pending = gathering.get(held)
      if (pending === undefined) {
        pending = newPending()
        gathering.set(held, pending)
      }
      if (what.events) pending.events.push(...what.events)
      if (what.put) pending.puts.push(what.put)
      if (what.writes) pending.writes.push(what.writes)
      if (what.settle) pending.settle = what.settle
      pending.bytes += sizeOf(what)
      running ??= drain()
      return pending.done
    },
    async flushed(threadId) {
      for (const batch of [committing, gathering]) {
        for (const [held, { puts, writes, done }] of batch) {
          if (held.thread_id === threadId && puts.length + writes.length > 0) await done.catch(() => {})
        }
      }
    },
    async idle() {
      while (running !== undefined) await running
    },
  }
}

async function failBefore(fail: Fail, entries: readonly Entry[]): Promise<void> {
  if (entries.some(({ events }) => events)) await fail('before_event_append')
}

/** What fails here was written, and the batch is written again: as when only the answer was lost. */
async function failAfter(fail: Fail, entries: readonly Entry[]): Promise<void> {
  if (entries.some(({ puts }) => puts.length > 0)) await fail('after_checkpoint_commit')
  if (entries.some(({ events }) => events)) await fail('after_event_append_before_publish')
  if (entries.some(({ settle }) => settle)) await fail('after_finalize_before_ack')
}

/** What is written now, and what has to wait for the next batch, in order. */
function divide(waiting: Map<Held, Pending>): [Map<Held, Pending>, Map<Held, Pending>] {
  let bytes = 0
  const [now, later] = [new Map<Held, Pending>(), new Map<Held, Pending>()]
  for (const [held, pending] of waiting) {
    bytes += pending.bytes
    const fits = now.size === 0 || (later.size === 0 && bytes <= MAX_BATCH_BYTES)
    ;(fits ? now : later).set(held, pending)
  }
  return [now, later]
}

function sizeOf({ events, put, writes, settle }: Append): number {
  let bytes = settle?.values == null ? 0 : lengthOf(bytesOf(settle.values))
  if (events?.length) bytes += batchSize(events)
  for (const { blob } of put?.values ?? []) bytes += blob.bytes.length
  for (const { blob } of writes?.writes ?? []) bytes += blob.bytes.length
  return bytes
}

/** Why this must not be stored at all, where it must not. */
function tooLarge({ put, writes }: Append, max: number): Error | undefined {
  // Where the thread has a part of it already, whoever reads it gets that too.
  const size = ({ blob, splices = [] }: { blob: Blob; splices?: Splice[] }) =>
    splices.reduce((sum, { bytes }) => sum + bytes, blob.bytes.length)
  const large = [...(put?.values ?? []), ...(writes?.writes ?? [])].find((value) => size(value) > max)
  if (large === undefined) return undefined
  const mebibytes = (bytes: number) => `${Math.round((bytes / 1024 / 1024) * 10) / 10} MiB`
  return new Error(
    `the value of channel "${large.channel}" takes ${mebibytes(size(large))}, more than the ${mebibytes(max)} that one value of a checkpoint may take. Keep large data elsewhere and its address in the state, or raise HEDDLE_CHECKPOINT_VALUE_MAX_BYTES.`,
  )
}

function newPending(): Pending {
  let resolve!: () => void
  let reject!: (error: unknown) => void
  const done = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  // Every append hands out the same promise; one that nobody awaits must not end the process.
  done.catch(() => {})
  return { bytes: 0, events: [], puts: [], writes: [], settle: undefined, done, resolve, reject }
}

/** An entry, and its events as they go out. */
type Sending = Entry & { sent: readonly StreamEvent[] }

/** A message whose body is made when somebody listens. */
function late(hint: BusMessage['hint'], events: readonly StreamEvent[]): BusMessage {
  let body: string | undefined
  return {
    hint,
    size: batchSize(events),
    get body() {
      body ??= encodeBatch(events)
      return body
    },
  }
}

function entryOf(
  held: Held,
  { events, puts, writes, settle }: Pending,
  store: ReturnType<typeof createDeltas>,
): Sending {
  const first = held.seq + 1
  held.seq += events.length
  return {
    sent: events,
    thread_id: held.thread_id,
    run_id: held.run_id,
    epoch: held.epoch,
    events:
      events.length === 0
        ? undefined
        : { first_seq: first, last_seq: held.seq, at: Date.now(), ...store(events, first) },
    puts,
    writes,
    settle: settle === undefined ? undefined : { ...settle, last_seq: held.seq },
  }
}
