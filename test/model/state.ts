// The state of the model: one thread, its runs as the database holds them, two workers as they are in memory, what is under
// way between them, and a few facts that only the laws look at ("ghosts"). Plain data; must stay small, it is copied often.

import type { RunStatus } from '../../src/db/runs.ts'

/** `none`: not created yet. `removed`: the row is gone. */
export type Status = RunStatus | 'none' | 'removed'

export interface Run {
  status: Status
  /** A worker's name; 0 is nobody's. */
  worker: number
  attempt: number
  /** The wish to cancel: 0 none, 1 interrupt, 2 rollback. */
  cancel: number
  /** How many of its nodes have a committed checkpoint. */
  progress: number
  /** The last seq among its events in the log; 0 when the log has none. */
  top: number
  /** Ghosts: claims that were not given back; `end` events; what a client was promised. */
  starts: number
  ends: number
  promised: number
}

/** What a claim or a creation gives to the worker that is to run it. */
export interface Claim {
  run: number
  epoch: number
  /** The thread's last event id given out. */
  seq: number
  /** The worker's name when it asked. */
  name: number
  attempt: number
  /** The run is being created with a slot of this worker kept for it. */
  reserved: boolean
  /** Ghosts: the run was taken from it; disowned; its own settlement is committed. */
  old: boolean
  disowned: boolean
  landed: boolean
}

/** 'claimed' → 'node' (ran, not committed) → 'done' (all committed), or 'dead': its executor died for the last time. */
export const phases = ['claimed', 'node', 'done', 'dead'] as const
export const reasons = ['', 'cancel', 'rollback', 'lease_lost'] as const
/** What a batch of the journal carries besides its event: a checkpoint, or how the run ends. */
export const batches = ['', 'put', 'succeed', 'fail', 'expire', 'cancel'] as const
export type Batch = (typeof batches)[number]

/** A run as its worker executes it. */
export interface Execution extends Claim {
  phase: (typeof phases)[number]
  reason: (typeof reasons)[number]
  /** A batch that was sent and not heard of; only it can be sent now. */
  sent: Batch
  /** A checkpoint was refused: what this execution did is not all stored. */
  torn: boolean
}

export interface Worker {
  up: boolean
  name: number
  trusted: boolean
  /** A claim or creation that is on its way from the database. */
  flying: Claim | undefined
  executions: Execution[]
}

/** One batch of one run, as a statement carries it. */
export interface Entry {
  run: number
  epoch: number
  first: number
  count: number
  kind: Batch
  /** Ghost of its execution. */
  old: boolean
}

export interface State {
  exists: boolean
  heldBy: number
  epoch: number
  lastSeq: number
  runs: Run[]
  /** Whether the lease of a name is valid, by the database's clock. */
  leases: boolean[]
  workers: Worker[]
  /** A statement that left its worker and was not executed yet. */
  late: Entry | undefined
  /** What the environment may still do. */
  faults: number
  asks: number
  /** Ghosts: the highest seq ever committed and whose it was; the first law that was broken. */
  highest: number
  highestRun: number
  highestEpoch: number
  broken: string | undefined
}

export const NONE = -1
const noRun: Run = {
  status: 'none',
  worker: 0,
  attempt: 0,
  cancel: 0,
  progress: 0,
  top: 0,
  starts: 0,
  ends: 0,
  promised: 0,
}

export interface Bounds {
  runs: number
  faults: number
  asks: number
}

/** An empty thread, and two workers with their leases. */
export function initial({ runs, faults, asks }: Bounds): State {
  const worker = (name: number): Worker => ({ up: true, name, trusted: true, flying: undefined, executions: [] })
  return {
    exists: true,
    heldBy: NONE,
    epoch: 0,
    lastSeq: 0,
    runs: Array.from({ length: runs }, () => noRun),
    leases: [false, true, true],
    workers: [worker(1), worker(2)],
    late: undefined,
    faults,
    asks,
    highest: 0,
    highestRun: NONE,
    highestEpoch: 0,
    broken: undefined,
  }
}

/** A copy that may be changed; the one it came from stays as it is. Field by field, because most of the time goes into it. */
export const copy = (s: State): State => ({
  exists: s.exists,
  heldBy: s.heldBy,
  epoch: s.epoch,
  lastSeq: s.lastSeq,
  runs: s.runs.map(copyRun),
  leases: s.leases.slice(),
  workers: s.workers.map(copyWorker),
  late: s.late,
  faults: s.faults,
  asks: s.asks,
  highest: s.highest,
  highestRun: s.highestRun,
  highestEpoch: s.highestEpoch,
  broken: s.broken,
})

const copyRun = (run: Run): Run => ({
  status: run.status,
  worker: run.worker,
  attempt: run.attempt,
  cancel: run.cancel,
  progress: run.progress,
  top: run.top,
  starts: run.starts,
  ends: run.ends,
  promised: run.promised,
})

const copyClaim = (claim: Claim): Claim => ({
  run: claim.run,
  epoch: claim.epoch,
  seq: claim.seq,
  name: claim.name,
  attempt: claim.attempt,
  reserved: claim.reserved,
  old: claim.old,
  disowned: claim.disowned,
  landed: claim.landed,
})

const copyExecution = (one: Execution): Execution => ({
  run: one.run,
  epoch: one.epoch,
  seq: one.seq,
  name: one.name,
  attempt: one.attempt,
  reserved: one.reserved,
  old: one.old,
  disowned: one.disowned,
  landed: one.landed,
  phase: one.phase,
  reason: one.reason,
  sent: one.sent,
  torn: one.torn,
})

const copyWorker = (w: Worker): Worker => ({
  up: w.up,
  name: w.name,
  trusted: w.trusted,
  flying: w.flying && copyClaim(w.flying),
  executions: w.executions.map(copyExecution),
})

export const isEnded = (status: Status): boolean =>
  status === 'success' || status === 'error' || status === 'timeout' || status === 'interrupted'
export const isActive = (status: Status): boolean => status === 'pending' || status === 'running'
