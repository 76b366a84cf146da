// The states of a run and what each event does to it: a total, pure table. In charge of the law that a run ends once;
// touches no database.

import type { RunStatus } from '../db/runs.ts'

export type RunEvent =
  /** A worker takes it, its attempt charged. */
  | 'claim'
  /** The graph came to its end, or to an interrupt. */
  | 'succeed'
  /** The graph threw, or the run used up its attempts. */
  | 'fail'
  /** It ran longer than a run may. */
  | 'expire'
  /** A client, or a newer run on the thread, stopped it. */
  | 'cancel'
  /** The same, and it leaves no trace. */
  | 'rollback'
  /** Its executor or worker died, or gave it back. */
  | 'release'
  /** A client deletes its row: only once it has ended. */
  | 'remove'
  /** Its thread is deleted, and everything with it. */
  | 'drop'

/** `removed`: the row goes. `refused`: the event must not happen in this state, and changes nothing. */
export type Next = RunStatus | 'removed' | 'refused'

const ENDED: Record<RunEvent, Next> = {
  claim: 'refused',
  succeed: 'refused',
  fail: 'refused',
  expire: 'refused',
  cancel: 'refused',
  rollback: 'refused',
  release: 'refused',
  remove: 'removed',
  drop: 'removed',
}

/** Every state × event. */
export const transitions: Record<RunStatus, Record<RunEvent, Next>> = {
  pending: {
    claim: 'running',
    succeed: 'refused',
    fail: 'refused',
    expire: 'refused',
    cancel: 'interrupted',
    rollback: 'removed',
    release: 'refused',
    remove: 'refused',
    drop: 'removed',
  },
  running: {
    claim: 'refused',
    succeed: 'success',
    fail: 'error',
    expire: 'timeout',
    cancel: 'interrupted',
    rollback: 'removed',
    release: 'pending',
    remove: 'refused',
    drop: 'removed',
  },
  success: ENDED,
  error: ENDED,
  timeout: ENDED,
  interrupted: ENDED,
}

/** True for a status that never changes again. */
export const hasEnded = (status: RunStatus): boolean => transitions[status].claim === 'refused' && status !== 'running'
