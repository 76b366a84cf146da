// Cancelling runs. In charge of recording the wish before anything is sent, of ending at once what no worker runs, and of
// saying who did it. Delivering the wish to the graph is the worker's.

import type { Bus } from '../bus/bus.ts'
import * as checkpoints from '../db/checkpoints.ts'
import type { Db } from '../db/db.ts'
import * as queue from '../db/queue.ts'
import * as runs from '../db/runs.ts'
import type { Sql } from '../db/sql.ts'
import { ApiError } from '../errors.ts'
import type { Fail } from '../failpoints.ts'
import { hasEnded, transitions } from './lifecycle.ts'
import { lastBatch } from './log.ts'
import { threadChannel } from './tails.ts'

/** The bus channel on which workers hear of wishes to cancel. */
export const CANCEL_CHANNEL = 'cancel'

export type CancelAction = 'interrupt' | 'rollback'

/** What a cancel did inside its transaction. */
export interface CancelPlan {
  /** Waited, and are over. */
  ended: { run_id: string; thread_id: string; status: string }[]
  /** Run on a live worker that has to be told. */
  wished: { run_id: string; action: CancelAction }[]
  /** Were held by a dead worker, and are over. */
  settled: { run_id: string; thread_id: string; status: string }[]
}

const idsOf = (of: readonly runs.ActiveRun[]): string[] => of.map(({ run_id }) => run_id)

/** Cancels runs of one thread. The caller holds the thread's lock and read `active` under it. A rollback asked for once stays
 *  one, whatever is asked for later. */
export async function planCancel(
  db: Db,
  threadId: string,
  active: readonly runs.ActiveRun[],
  action: CancelAction,
  reason: string,
): Promise<CancelPlan> {
  const rollsBack = (run: runs.ActiveRun) => action === 'rollback' || run.cancel_action === 'rollback'
  const waiting = active.filter((run) => run.status === 'pending')
  const running = idsOf(active.filter((run) => run.status === 'running' && run.alive))
  const dead = active.filter((run) => run.status === 'running' && !run.alive)
  const plan: CancelPlan = { ended: [], wished: [], settled: [] }
  const removed = waiting.filter(rollsBack)
  if (removed.length > 0) {
    const gone = await runs.deletePending(db, idsOf(removed))
    for (const { run_id } of removed.filter((run) => run.begun)) await checkpoints.removeOfRun(db, threadId, run_id)
    plan.ended.push(
      ...gone.map(({ run_id }) => ({ run_id, thread_id: threadId, status: transitions.pending.rollback })),
    )
  }
  const stopped = waiting.filter((run) => !rollsBack(run))
  if (stopped.length > 0) {
    const gone = await runs.interruptPending(db, idsOf(stopped), reason)
    plan.ended.push(...gone.map(({ run_id }) => ({ run_id, thread_id: threadId, status: transitions.pending.cancel })))
  }
  if (running.length > 0) {
    const wished = await runs.wishCancel(db, running, action, reason)
    plan.wished = wished.map(({ run_id }) => ({ run_id, action }))
  }
  for (const run of dead) {
    const { run_id, temporary } = run
    const last = lastBatch('interrupted', null)
    await queue.end(db, run_id, { status: 'interrupted', error: null, reason, doom: temporary, last })
    if (rollsBack(run)) await removeTraces(db, threadId, run_id)
    const status = transitions.running[rollsBack(run) ? 'rollback' : 'cancel']
    plan.settled.push({ run_id, thread_id: threadId, status })
  }
  return plan
}

/** Removes an ended run with its checkpoints: the thread's state is what it was before. Under the thread's lock. */
export async function removeTraces(db: Db, threadId: string, runId: string): Promise<void> {
  await checkpoints.removeOfRun(db, threadId, runId)
  await runs.removeKeepingLog(db, runId)
}

/** Tells the other processes, after the commit. Losing it costs time only: the wish is in the database. */
export function announce(bus: Bus, plan: CancelPlan): void {
  for (const { run_id, action } of plan.wished) bus.publish(CANCEL_CHANNEL, { hint: { run_id, action } })
  for (const { run_id, thread_id, status } of [...plan.ended, ...plan.settled]) {
    bus.publish(threadChannel(thread_id), { hint: { ended: run_id, status } })
  }
  if (plan.settled.length > 0 || plan.ended.length > 0) bus.publish('runs', { hint: { waiting: true } })
}

export interface CancelRequest {
  thread_id: string
  run_id: string
  action: CancelAction
  reason: string
  visible: Sql
}

interface CancelDeps {
  db: Db
  bus: Bus
  /** Called at failpoints, in tests. */
  fail?: Fail | undefined
}

/** Cancels one run. Throws `run_not_found`, or `run_not_cancellable` when it has ended. */
export async function cancelRun(deps: CancelDeps, request: CancelRequest): Promise<CancelPlan> {
  const plan = await deps.db.tx(async (tx) => {
    const locked = await runs.lockThread(tx, request.thread_id, request.visible)
    const run = locked && (await runs.get(tx, request.thread_id, request.run_id, request.visible))
    if (run === undefined) throw new ApiError('run_not_found', `There is no run ${request.run_id} on this thread.`)
    if (hasEnded(run.status)) {
      throw new ApiError(
        'run_not_cancellable',
        `The run has ended with status "${run.status}" and cannot be cancelled.`,
      )
    }
    const active = (await runs.active(tx, request.thread_id)).filter(({ run_id }) => run_id === request.run_id)
    return planCancel(tx, request.thread_id, active, request.action, request.reason)
  })
  await deps.fail?.('after_cancel_before_publish')
  announce(deps.bus, plan)
  return plan
}

/** Cancels many runs. Asked for by ids, all must exist; those that have ended are left as they are. */
export async function cancelRuns(
  deps: CancelDeps,
  which: Parameters<typeof runs.toCancel>[1],
  request: Omit<CancelRequest, 'thread_id' | 'run_id'>,
): Promise<void> {
  const found = await runs.toCancel(deps.db, which, request.visible)
  if ('run_ids' in which) {
    const missing = which.run_ids.find((id) => !found.some(({ run_id }) => run_id === id))
    if (missing !== undefined) throw new ApiError('run_not_found', `There is no run ${missing} on this thread.`)
  } else if (found.length === 0) {
    throw new ApiError('run_not_found', `There is no run to cancel with status "${which.status}".`)
  }
  for (const run of found) {
    if (hasEnded(run.status)) continue
    await cancelRun(deps, { ...request, thread_id: run.thread_id, run_id: run.run_id }).catch((error: unknown) => {
      // It ended between the look and the cancel: that is what was asked for.
      if (!(error instanceof ApiError && ['run_not_found', 'run_not_cancellable'].includes(error.code))) throw error
    })
  }
}
