// What a run of the harness leaves behind, as data: the clients' logs, the ledger, and what the database saw. In charge of
// the types that clients, witnesses and the checker share. Times are milliseconds since 1970.

import type { LedgerEntry } from './ledger.ts'

/** A run that a client was told exists. */
export interface Accepted {
  run_id: string
  thread_id: string
  /** The client's name for it, in the state of the thread. */
  tag: string
  strategy: string
  at: number
  /** The thread is deleted with it. */
  temporary: boolean
}

/** One stream as a client saw it, over all its connections. */
export interface StreamLog {
  run_id: string
  thread_id: string
  /** Ids of every event but `end`, in the order they came. */
  ids: number[]
  /** How many `end`s came. */
  ends: number
  connections: number
  /** The run was gone when the client came back. */
  gone: boolean
}

/** What a client who waited for a run was told in the end. */
export interface WaitLog {
  run_id: string
  thread_id: string
  tag: string
  /** `gone`: rolled back or deleted. Undefined: it gave up. */
  outcome: 'values' | 'gone' | undefined
  /** How many of its steps the answer had. */
  steps: number
  /** The answer's beginning. */
  said: string
}

/** An answer that deserves a look: 5xx, or one that says too much. */
export interface SuspectAnswer {
  member: string
  /** When it was asked, and when it answered. */
  from: number
  to: number
  status: number
  request: string
  body: string
}

/** From when to when a member may answer 5xx; every member where none is named. */
export interface Outage {
  member?: string
  from: number
  to: number
}

export interface StatusChange {
  n: number
  at: number
  run_id: string
  thread_id: string
  from: string | null
  /** `removed` when the row goes. */
  to: string
  attempt: number
}

export interface Hold {
  n: number
  at: number
  tx: number
  thread_id: string
  from: string | null
  to: string | null
  epoch: number
}

export interface Write {
  n: number
  at: number
  tx: number
  kind: 'events' | 'checkpoint'
  thread_id: string
  run_id: string
  /** Of a root checkpoint after a step of the graph. */
  step: number | null
}

export interface EventRow {
  thread_id: string
  run_id: string
  first_seq: number
  last_seq: number
  batch: string
}

/** Something that should be as it was before. */
export interface Resource {
  name: string
  before: number
  after: number
  /** How much more than 10 % above is still nothing. */
  slack: number
}

/** A run that lost its process. */
export interface Recovery {
  fault: string
  run_id: string
  /** Until it was claimed again, or ended. */
  ms: number
  bound: number
}

export interface History {
  accepted: Accepted[]
  /** Every answer to a request with an Idempotency-Key that named a run. */
  keys: { key: string; run_id: string }[]
  /** Threads on which a client asked for a rollback, whether or not it was answered. */
  rollbacks: string[]
  streams: StreamLog[]
  waits: WaitLog[]
  suspects: SuspectAnswer[]
  outages: Outage[]
  ledger: LedgerEntry[]
  statuses: StatusChange[]
  holds: Hold[]
  writes: Write[]
  events: EventRow[]
  /** Threads' states at the end: what nodes put there, in order. */
  states: { thread_id: string; done: string[] }[]
  resources: Resource[]
  recoveries: Recovery[]
  /** Share of the runs nobody stopped that must end well, and how many runs are a test at all. */
  least: { successRatio: number; runs: number }
}

export const emptyHistory = (): History => ({
  accepted: [],
  keys: [],
  rollbacks: [],
  streams: [],
  waits: [],
  suspects: [],
  outages: [],
  ledger: [],
  statuses: [],
  holds: [],
  writes: [],
  events: [],
  states: [],
  resources: [],
  recoveries: [],
  least: { successRatio: 0, runs: 0 },
})

/** Items by a key, in their order. */
export function groupBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}
