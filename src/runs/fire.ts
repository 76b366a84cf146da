// Firing crons. In charge of one run for each slot: the slot, its run and the cron's next date are one transaction under the
// cron's lock. After an outage only the latest slot is fired. Any number of processes may do this at once.

import type { Bus } from '../bus/bus.ts'
import type { RunCreate } from '../contract/runs.ts'
import * as crons from '../db/crons.ts'
import { type Db, within } from '../db/db.ts'
import { all, type Sql } from '../db/sql.ts'
import { isOutage } from '../db/sqlstate.ts'
import { ApiError, type ErrorCode } from '../errors.ts'
import type { Fail } from '../failpoints.ts'
import type { Observe } from '../observe.ts'
import { announce } from './cancel.ts'
import { type CreateDeps, type Creation, createRun, newIds } from './create.ts'
import { runOf } from './crons.ts'
import { parseSchedule } from './schedule.ts'

/** Runs with threads of their own are created this many in a transaction; on threads one, so that none is locked for long. */
const AT_ONCE = 50
/** A run this late makes up for an outage. */
const LATE_MS = 60_000
/** A cron whose runs could not be created this many times in a row is disabled. */
const MAX_FAILURES = 5
/** What no later slot will meet otherwise. */
const HOPELESS: readonly ErrorCode[] = ['assistant_not_found', 'thread_not_found', 'validation_failed', 'not_supported']

export interface FireDeps extends Omit<CreateDeps, 'db'> {
  db: Db
  bus: Bus
  observe: Observe
  /** What decides that a cron is due. */
  clock: Sql
  /** Called at failpoints, in tests. */
  fail?: Fail | undefined
}

/** The graphs that this process serves: crons of others are left to who does. */
export const graphIdsOf = ({ registry }: Pick<FireDeps, 'registry'>): string[] =>
  registry.graphs().map(({ graph_id }) => graph_id)

/** Fires every cron that is due. One whose run cannot be created does not hold up the others. */
export async function fireDue(deps: FireDeps): Promise<void> {
  const drained = await Promise.allSettled([drain(deps, false), drain(deps, true)])
  for (const each of drained) if (each.status === 'rejected') throw each.reason
}

async function drain(deps: FireDeps, onThread: boolean): Promise<void> {
  for (let limit = onThread ? 1 : AT_ONCE; ; ) {
    const found: crons.LockedCron[] = []
    try {
      await fire(deps, { onThread, limit }, found)
      if (found.length < limit) return
    } catch (error) {
      const [cron] = found
      if (isOutage(error) || cron === undefined) throw error
      // Of many it is not known which one failed.
      if (limit === 1) await giveUp(deps, cron, error)
      limit = 1
    }
  }
}

/** What is to be done about a cron that is due. Moments are milliseconds since 1970. */
interface Plan {
  cron: crons.LockedCron
  /** Undefined where it is to bring no run. */
  slot: number | undefined
  next: string | null
  /** The oldest slot that was not decided, where it is so old that there was an outage. */
  missedSince: number | undefined
  /** It cannot be read any more. */
  error?: ApiError
}

function planOf(cron: crons.LockedCron): Plan {
  const now = Date.parse(cron.now)
  const since = Date.parse(cron.next_run_date as string)
  const end = cron.end_time === null ? Number.POSITIVE_INFINITY : Date.parse(cron.end_time)
  const missedSince = now - since >= LATE_MS ? since : undefined
  try {
    const schedule = parseSchedule(cron.schedule, cron.timezone)
    // A run just after the end is in time for a slot before it; one that is made up for is not.
    const isOver = now > end && missedSince !== undefined
    const slot = isOver ? undefined : schedule.latest(since, Math.min(now, end))
    const following = schedule.next(now)
    const next = following === undefined || following > end ? null : isoOf(following)
    return { cron, slot, next, missedSince }
  } catch (error) {
    // Another version of the server knew its time zone.
    if (error instanceof ApiError) return { cron, slot: since, next: null, missedSince, error }
    throw error
  }
}

const isoOf = (moment: number): string => new Date(moment).toISOString()

async function fire(
  deps: FireDeps,
  which: { onThread: boolean; limit: number },
  found: crons.LockedCron[],
): Promise<void> {
  const made = await deps.db.tx(async (tx) => {
    const due = await crons.due(tx, { ...which, graphIds: graphIdsOf(deps) }, deps.clock)
    found.splice(0, found.length, ...due)
    if (found.length === 0) return []
    const attempts = await Promise.allSettled(found.map((cron) => attempt({ ...deps, db: within(tx) }, planOf(cron))))
    const fired = attempts.map((each) => {
      if (each.status === 'rejected') throw each.reason
      return each.value
    })
    if (deps.fail) await deps.fail('cron_after_claim')
    await crons.decide(
      tx,
      fired.map(({ decided }) => decided),
    )
    return fired
  })
  for (const fired of made) tell(deps, fired)
  if (made.some(({ creation }) => creation !== undefined)) deps.bus.publish('runs', { hint: { waiting: true } })
}

interface Fired {
  decided: crons.Decided
  plan: Plan
  creation?: Creation
}

/** Creates the run of a slot. What a client would be told is wrong with it is written down for the cron. */
async function attempt(deps: FireDeps, plan: Plan): Promise<Fired> {
  const { cron, slot } = plan
  if (slot === undefined || plan.error !== undefined) return { decided: decision(plan, plan.error), plan }
  try {
    const request = { thread_id: cron.thread_id, body: bodyOf(plan, slot), visible: all }
    const creation = await createRun(deps, request, newIds(cron.thread_id), null)
    return { decided: { ...decision(plan), run_id: creation.run.run_id }, plan, creation }
  } catch (error) {
    if (!(error instanceof ApiError) || isOutage(error)) throw error
    return { decided: decision(plan, error), plan }
  }
}

function bodyOf({ cron, missedSince }: Plan, slot: number): RunCreate {
  const body = runOf(cron)
  const cron_catch_up = missedSince !== undefined && {
    since: isoOf(missedSince),
    late_seconds: Math.round((Date.parse(cron.now) - slot) / 1_000),
  }
  const said = { cron_id: cron.cron_id, cron_slot: isoOf(slot), ...(cron_catch_up && { cron_catch_up }) }
  return { ...body, metadata: { ...body.metadata, ...said } }
}

/** What is written of a slot without a run, and whether it costs the cron its place. */
function decision({ cron, slot, next }: Plan, error?: ApiError): crons.Decided {
  const { cron_id } = cron
  // That a thread is busy is no failure: the strategy "reject" asks for it.
  const failures = error === undefined || error.code === 'thread_busy' ? 0 : cron.failures + 1
  const tooOften =
    failures < MAX_FAILURES ? null : `The last ${failures} runs could not be created: ${error?.message ?? ''}`
  return {
    cron_id,
    slot: slot === undefined ? null : isoOf(slot),
    run_id: null,
    next_run_date: next,
    failures,
    error: error?.message ?? null,
    disable: error !== undefined && HOPELESS.includes(error.code) ? error.message : tooOften,
  }
}

/** Decides the slot of a cron at which its transaction failed, without a run. */
async function giveUp(deps: FireDeps, { cron_id }: crons.LockedCron, failure: unknown): Promise<void> {
  deps.observe({ kind: 'background_failed', service: 'schedule', error: failure })
  const error = new ApiError('internal', 'The server failed to create the run. Its log says why.')
  const fired = await deps.db.tx(async (tx) => {
    const cron = await crons.lock(tx, cron_id, deps.clock, all)
    if (cron.next_run_date === null || Date.parse(cron.next_run_date) > Date.parse(cron.now)) return undefined
    const plan = planOf(cron)
    const decided = decision(plan, error)
    await crons.decide(tx, [decided])
    return { decided, plan }
  })
  if (fired !== undefined) tell(deps, fired)
}

/** Says what was done, after the commit. */
function tell({ bus, observe }: FireDeps, { decided, plan, creation }: Fired): void {
  const { cron_id, slot, error, disable } = decided
  if (slot === null) return
  if (creation === undefined) {
    const reason = disable ?? error ?? ''
    observe({ kind: 'cron_not_fired', cron_id, slot, reason, disabled: disable !== null })
    return
  }
  const { run_id, thread_id, multitask_strategy: strategy } = creation.run
  announce(bus, creation.cancelled)
  observe({ kind: 'run_created', run_id, thread_id, strategy, ...(creation.waits && { waits: creation.waits }) })
  observe({ kind: 'cron_fired', cron_id, slot, run_id, late_ms: Date.parse(plan.cron.now) - Date.parse(slot) })
}
