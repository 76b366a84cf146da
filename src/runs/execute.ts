// The way of a claimed run, from its job to its end. In charge of giving the executor's output to the journal, of the
// run's timeout, and of doing what the verdict on its outcome says; owns no slot and no lease.

import type { Db } from '../db/db.ts'
import type { Settlement } from '../db/journal.ts'
import type { Claimed } from '../db/queue.ts'
import * as queue from '../db/queue.ts'
import { isOutage } from '../db/sqlstate.ts'
import { LeaseLost, messageOf, RollbackWished } from '../errors.ts'
import type { Executor, RunHandle, RunSink } from '../executor/executor.ts'
import type { AbortReason, Job, Outcome, RunArguments, StreamEvent } from '../executor/protocol.ts'
import type { CheckpointPut, WritesPut } from '../executor/stored.ts'
import type { Fail } from '../failpoints.ts'
import { removeTraces } from './cancel.ts'
import type { Result } from './join.ts'
import { ANSWERED, CHECKPOINT, lastBatch, lastEvents } from './log.ts'
import { judge, type Verdict } from './settle.ts'

/** What the run's worker lends it: the fenced way into the database. */
export interface RunJournal {
  append(what: {
    events?: readonly StreamEvent[]
    put?: CheckpointPut
    writes?: WritesPut
    settle?: Omit<Settlement, 'last_seq'>
  }): Promise<void>
}

export interface ExecuteDeps {
  db: Db
  executor: Executor
  journal: RunJournal
  /** Called at failpoints, in tests. */
  fail?: Fail | undefined
  maxAttempts: number
  runTimeoutSeconds: number
  /** How long an aborted graph may take to stop before its run is settled without it. */
  abortGraceMs: number
  /** The thread's checkpoints are as the holder before left them. */
  continues: boolean
  /** Called when the executor is done with the run; what is left is to write its end. */
  onOutcome: () => void
}

/** How the run came out, for its worker. */
export type Finished =
  | { as: 'settled'; status: string; error: string | undefined; result: Result }
  | { as: 'removed' }
  | { as: 'released' }
  | { as: 'lost' }

export interface Execution {
  /** Never rejects. */
  readonly finished: Promise<Finished>
  /** Stops the run; the first reason counts, but `rollback` after `cancel`, and `lease_lost` always. */
  abort(reason: AbortReason): void
}

/** How long a run that is given back may take to stop by itself. */
const HAND_OFF_MS = 300

/** Executes a run that this worker has claimed. */
export function execute(given: ExecuteDeps, claimed: Claimed): Execution {
  const deps = { ...given, journal: beginning(given.journal, claimed) }
  const { journal } = deps
  let reason: AbortReason | undefined
  let broken: Error | undefined
  let handle: RunHandle | undefined
  let giveUp: (outcome: Outcome) => void = () => {}
  let grace: NodeJS.Timeout | undefined

  const abort = (why: AbortReason) => {
    const isStronger = why === 'lease_lost' || (why === 'rollback' && reason === 'cancel')
    if (reason !== undefined && !isStronger) return
    reason = why
    handle?.abort(why)
    // A run that is given back is fenced off: it need not stop before another worker has it.
    const patience = why === 'shutdown' ? Math.min(HAND_OFF_MS, deps.abortGraceMs) : deps.abortGraceMs
    grace ??= setTimeout(() => giveUp({ kind: 'aborted', reason: reason ?? why }), patience)
    grace.unref()
  }
  /** What could not be written ends the run: silently when it is not ours any more, else as its error. */
  const guard = (written: Promise<void>): Promise<void> => {
    written.catch((error: unknown) => {
      if (!(error instanceof LeaseLost)) broken ??= error as Error
      abort('lease_lost')
    })
    return written
  }
  const sink: RunSink = {
    events: (events) => guard(journal.append({ events })),
    put: (put) => guard(journal.append({ put, ...marker(put) })),
    writes: (writes) => guard(journal.append({ writes })),
  }

  async function run(): Promise<Finished> {
    const timeout = setTimeout(() => abort('timeout'), Math.min(deps.runTimeoutSeconds * 1_000, 2 ** 31 - 1))
    if (beginsSilently(claimed)) void guard(journal.append({}))
    try {
      handle = deps.executor.run(jobOf(claimed, deps.continues), sink)
      if (reason !== undefined) handle.abort(reason)
      const gaveUp = new Promise<Outcome>((resolve) => {
        giveUp = resolve
      })
      const outcome = await Promise.race([handle.outcome, gaveUp])
      deps.onOutcome()
      return await conclude(deps, claimed, judgement(outcome))
    } catch (error) {
      // In an outage nobody knows what was done. What is still ours then, is found and rescued.
      if (error instanceof LeaseLost || isOutage(error)) return { as: 'lost' }
      return failed(deps, claimed, error)
    } finally {
      clearTimeout(timeout)
      clearTimeout(grace)
    }
  }

  function judgement(outcome: Outcome): Verdict {
    const settings = {
      attempt: claimed.attempt,
      attemptsLeft: deps.maxAttempts - claimed.attempt,
      runTimeoutSeconds: deps.runTimeoutSeconds,
    }
    if (broken !== undefined) {
      const message = `What the run wrote could not be stored: ${messageOf(broken)}`.slice(0, 8_192)
      return judge({ kind: 'error', error: { error: 'StorageError', message } }, settings)
    }
    // A run that was being stopped, and whose executor died of it, was stopped. What is to be rolled back goes, even if it
    // was done before it heard of it, or was being cancelled.
    // What a worker without a lease ran may be stored in part: whoever rescues the run decides how it ends.
    const overrides =
      reason === 'rollback' || reason === 'lease_lost' || (outcome.kind === 'crashed' && reason !== undefined)
    return judge(overrides && reason !== undefined ? { kind: 'aborted', reason } : outcome, settings)
  }

  return { finished: run(), abort }
}

/** What a run says first is written with what it brings first: a commit for it alone would help nobody. */
function beginning(journal: RunJournal, { run_id, attempt, kwargs }: Claimed): RunJournal {
  let begin: StreamEvent[] = [{ event: 'metadata', data: JSON.stringify({ run_id, attempt }) }, ...answers(kwargs)]
  return {
    append(what) {
      const said = begin
      const events = [...said, ...(what.events ?? [])]
      begin = []
      const written = journal.append({ ...what, ...(events.length > 0 && { events }) })
      // Where it was refused nothing was written, and the run's end still is.
      if (said.length > 0) written.catch(() => (begin = said))
      return written
    },
  }
}

/** Whether nothing else may come of a run before its first node is done: those who follow it want to know which it is. */
function beginsSilently(claimed: Claimed): boolean {
  const { durability, input, command } = argumentsOf(claimed)
  return durability === 'exit' || claimed.begun || (input === null && command === undefined)
}

/** The root graph's checkpoints are marked in the log, for joins that begin at one. */
const marker = (put: CheckpointPut): { events?: StreamEvent[] } =>
  put.checkpoint_ns === '' ? { events: [{ event: CHECKPOINT, data: JSON.stringify(put.checkpoint_id) }] } : {}

const INTERRUPT_ID = /^[0-9a-f]{32}$/

/** A run that answers interrupts by their ids says so first, so that all who follow its thread can stop asking. */
function answers(kwargs: Claimed['kwargs']): StreamEvent[] {
  const resume: unknown = argumentsOf({ kwargs }).command?.resume
  if (typeof resume !== 'object' || resume === null || Array.isArray(resume)) return []
  const ids = Object.keys(resume)
  const isById = ids.length > 0 && ids.every((id) => INTERRUPT_ID.test(id))
  return isById ? [{ event: ANSWERED, data: JSON.stringify(ids) }] : []
}

const argumentsOf = ({ kwargs }: Pick<Claimed, 'kwargs'>): RunArguments => kwargs as unknown as RunArguments

function jobOf(claimed: Claimed, continues: boolean): Job {
  return {
    run_id: claimed.run_id,
    thread_id: claimed.thread_id,
    assistant_id: claimed.assistant_id,
    graph_id: claimed.graph_id,
    attempt: claimed.attempt,
    begun: claimed.begun,
    ...(claimed.suspect && { suspect: true }),
    args: argumentsOf(claimed),
    metadata: claimed.metadata,
    fresh: !claimed.begun && claimed.last_seq === 0 && claimed.state_updated_at === null,
    epoch: claimed.epoch,
    continues,
  }
}

/** Whether somebody is owed word of the run's end. */
export const namesWebhook = ({ kwargs }: Pick<Claimed, 'kwargs'>): boolean => kwargs.webhook !== undefined

/** The exhaustive switch over what is to be done. */
async function conclude(deps: ExecuteDeps, claimed: Claimed, verdict: Verdict): Promise<Finished> {
  switch (verdict.do) {
    case 'settle': {
      const { settlement, error } = verdict
      if (deps.fail) {
        await deps.journal.append({})
        await deps.fail('before_finalize')
      }
      const waiting = settlement.settled_status === 'interrupted' ? { interrupts: settlement.interrupts } : undefined
      const events = lastEvents(settlement.status, error, waiting)
      try {
        await deps.journal.append({
          events,
          settle: { ...settlement, doom: claimed.temporary, webhook: namesWebhook(claimed) },
        })
      } catch (failure) {
        // Nobody had told us yet.
        if (failure instanceof RollbackWished) return rollBack(deps.db, claimed)
        throw failure
      }
      const result: Result =
        error !== null
          ? { status: 'error', error }
          : {
              status: 'ended',
              values: settlement.values ?? 'null',
              interrupts: settlement.interrupts as Record<string, unknown[]>,
            }
      return { as: 'settled', status: settlement.status, error: error?.message, result }
    }
    case 'release': {
      await deps.journal.append({})
      const released = await queue.requeue(deps.db, [claimed], verdict)
      return released.length > 0 ? { as: 'released' } : { as: 'lost' }
    }
    case 'roll_back':
      await deps.journal.append({})
      return rollBack(deps.db, claimed)
    case 'abandon':
      return { as: 'lost' }
  }
}

/** Removes a run that this worker holds, with its checkpoints, if it still does. */
export async function rollBack(
  db: Db,
  claimed: Pick<Claimed, 'run_id' | 'thread_id' | 'epoch' | 'temporary'>,
): Promise<Finished> {
  return db.tx(async (tx) => {
    if ((await queue.lockHeld(tx, claimed)).length === 0) return { as: 'lost' }
    const last = lastBatch('interrupted', null)
    await queue.end(tx, claimed.run_id, {
      status: 'interrupted',
      error: null,
      reason: null,
      doom: claimed.temporary,
      last,
    })
    await removeTraces(tx, claimed.thread_id, claimed.run_id)
    return { as: 'removed' }
  })
}

/** Something of ours failed: the run ends with that as its error rather than staying held for ever. */
async function failed(deps: ExecuteDeps, claimed: Claimed, error: unknown): Promise<Finished> {
  const verdict = judge(
    { kind: 'error', error: { error: 'InternalError', message: messageOf(error).slice(0, 8_192) } },
    { attempt: claimed.attempt, attemptsLeft: 0, runTimeoutSeconds: deps.runTimeoutSeconds },
  )
  return conclude(deps, claimed, verdict).catch((): Finished => ({ as: 'lost' }))
}
