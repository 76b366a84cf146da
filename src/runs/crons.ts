// Making and changing crons. In charge of refusing what could never bring a run, and of the date of the next one being true
// after every change; firing is in fire.ts.

import type { Bus } from '../bus/bus.ts'
import type { WebhookConfig } from '../config.ts'
import { type CronCreate, type CronPatch, changed, cronRun } from '../contract/crons.ts'
import { problemOf } from '../contract/problem.ts'
import type { RunCreate } from '../contract/runs.ts'
import * as assistants from '../db/assistants.ts'
import * as crons from '../db/crons.ts'
import type { Db } from '../db/db.ts'
import type { Sql } from '../db/sql.ts'
import { isOrphan } from '../db/sqlstate.ts'
import * as threads from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import type { Registry } from '../graph/registry.ts'
import { newId } from '../ids.ts'
import { parseSchedule } from './schedule.ts'
import { webhookOf } from './webhooks.ts'

/** The bus channel on which schedulers hear that a cron may be due earlier than they know. */
export const CRON_CHANNEL = 'crons'

interface CronDeps {
  db: Db
  bus: Bus
  registry: Registry
  /** Undefined where webhooks are switched off. */
  webhooks: WebhookConfig | undefined
}

type Timing = Pick<crons.CronRow, 'schedule' | 'timezone' | 'end_time' | 'enabled'>

/** What a cron's runs are created with. Throws `validation_failed`, or `not_supported`. */
export function runOf(
  cron: Pick<crons.CronRow, 'assistant_id' | 'payload' | 'metadata' | 'on_run_completed'>,
): RunCreate {
  const { assistant_id, payload, metadata, on_run_completed } = cron
  const run = cronRun({ ...payload, assistant_id, metadata }, on_run_completed)
  if (run.success) return run.data
  const { code, detail } = problemOf('body', run.error)
  throw new ApiError(code, detail)
}

/** Throws for what creating its runs would throw for, as far as that is known beforehand. */
function check(cron: Parameters<typeof runOf>[0], webhooks: WebhookConfig | undefined): void {
  const { webhook } = runOf(cron)
  if (webhook !== undefined) webhookOf(webhook, webhooks)
}

/** The slot that comes after a moment, as it is stored; null where the cron is disabled or at its end. */
export function nextDate(cron: Timing, after: number): string | null {
  const schedule = parseSchedule(cron.schedule, cron.timezone)
  const next = schedule.next(after)
  if (next === undefined) throw new ApiError('validation_failed', 'body.schedule: names a time that never comes')
  const isOver = cron.end_time !== null && next > Date.parse(cron.end_time)
  return cron.enabled && !isOver ? new Date(next).toISOString() : null
}

/** Makes a cron, on a thread or (null) with a thread for each of its runs. Throws `assistant_not_found`,
 *  `graph_not_found`, `thread_not_found`, and `validation_failed` for a schedule or time zone that is none. */
export async function createCron(
  { db, bus, registry, webhooks }: CronDeps,
  threadId: string | null,
  body: CronCreate,
  visible: Sql,
): Promise<crons.CronRow> {
  const { assistant_id, graph_id } = await assistants.get(db, registry.resolve(body.assistant_id), visible)
  registry.graph(graph_id)
  if (threadId !== null) await threads.get(db, threadId, visible)
  const { timezone = null, end_time = null, ...rest } = body
  const cron = { ...rest, assistant_id, timezone, end_time, thread_id: threadId, cron_id: newId() }
  check(cron, webhooks)
  const now = Date.parse(await crons.now(db, crons.databaseClock))
  const made = await crons.insert(db, { ...cron, next_run_date: nextDate(cron, now) }).catch((error: unknown) => {
    throw isOrphan(error) ? new ApiError('thread_not_found', `The thread ${threadId} does not exist.`) : error
  })
  bus.publish(CRON_CHANNEL, { hint: { changed: true } })
  return made
}

/** Changes a cron: absent keeps, null clears. Enabling it forgets what went wrong before. Throws `cron_not_found`, and
 *  `assistant_not_found` where there is nothing left to enable. */
export async function changeCron(
  { db, bus, webhooks }: CronDeps,
  cronId: string,
  patch: CronPatch,
  visible: Sql,
): Promise<crons.CronRow> {
  const changedCron = await db.tx(async (tx) => {
    const before = await crons.lock(tx, cronId, crons.databaseClock, visible)
    const cron = {
      ...before,
      schedule: patch.schedule ?? before.schedule,
      timezone: patch.timezone === undefined ? before.timezone : patch.timezone,
      end_time: patch.end_time === undefined ? before.end_time : patch.end_time,
      enabled: patch.enabled ?? before.enabled,
      metadata: patch.metadata === null ? {} : { ...before.metadata, ...patch.metadata },
      on_run_completed: completion(before, patch),
      payload: changed(before.payload, patch.payload),
    }
    check(cron, webhooks)
    if (cron.enabled && !before.enabled) await assistants.get(tx, cron.assistant_id, visible)
    // A slot that was decided is not decided again, even where the clock was put back.
    const after = Math.max(Date.parse(before.now), Date.parse(before.last_slot ?? before.now))
    // A slot that has come and is not decided yet stays due, unless there is another schedule.
    const same = cron.schedule === before.schedule && cron.timezone === before.timezone
    const coming = same && before.next_run_date !== null ? Date.parse(before.next_run_date) - 1 : after
    const next_run_date = nextDate(cron, Math.min(coming, after))
    return crons.update(tx, { ...cron, next_run_date, forgive: patch.enabled !== undefined })
  })
  bus.publish(CRON_CHANNEL, { hint: { changed: true } })
  return changedCron
}

function completion(before: crons.CronRow, { on_run_completed }: CronPatch): crons.CronRow['on_run_completed'] {
  if (on_run_completed === undefined) return before.on_run_completed
  if (before.thread_id === null) return on_run_completed ?? 'delete'
  if (on_run_completed !== 'delete') return null
  throw new ApiError('validation_failed', 'body.on_run_completed: must be left out on a thread, which is kept')
}
