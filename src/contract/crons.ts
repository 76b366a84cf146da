// What the API says of crons: bodies, replies and endpoints. A cron's payload is what its runs are created with, as it was
// given: `cronRun` reads it as the body of a run.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'
import { explain } from './problem.ts'
import { multitaskStrategy, runOptions, someStreamModes, statefulRun, statelessRun } from './runs.ts'
import { threadParams } from './threads.ts'

const onRunCompleted = z.enum(['delete', 'keep'])

export const cron = z
  .object({
    cron_id: z.string(),
    assistant_id: z.string(),
    thread_id: z.string().nullable(),
    on_run_completed: onRunCompleted.nullable().describe('What becomes of the thread of each run; null on a thread.'),
    end_time: c.time.nullable(),
    schedule: z.string(),
    timezone: z.string().nullable(),
    created_at: c.time,
    updated_at: c.time,
    user_id: z.string().nullable(),
    payload: c.object.describe('What its runs are created with.'),
    next_run_date: c.time.nullable().describe('Null where no run will be created: disabled, or at its end.'),
    metadata: c.object,
    enabled: z.boolean(),
    disabled_reason: z.string().nullable().describe('Why the server disabled it.'),
    last_error: z.string().nullable().describe('Why its last slot brought no run.'),
  })
  .meta({ id: 'Cron' })
export type Cron = z.output<typeof cron>

export const cronFields = z.enum([
  'cron_id',
  'assistant_id',
  'thread_id',
  'on_run_completed',
  'end_time',
  'schedule',
  'timezone',
  'created_at',
  'updated_at',
  'user_id',
  'payload',
  'next_run_date',
  'metadata',
  'enabled',
  'disabled_reason',
  'last_error',
  'now',
])

const schedule = z
  .string()
  .min(1)
  .max(512)
  .meta({ description: 'Five fields (minute, hour, day of month, month, day of week), or a macro like `@daily`.' })
const timezone = z.string().min(1).max(64).meta({ description: 'An IANA time zone; UTC where there is none.' })
const endTime = z.iso
  .datetime({ offset: true, local: true, error: 'must be a time such as 2026-12-31T23:59:00Z' })
  // A time without a zone is in UTC.
  .transform((text) => new Date(/(?:Z|[+-]\d\d:\d\d)$/.test(text) ? text : `${text}Z`).toISOString())

// Null and absent differ in a change, so nothing here has a default.
const options = {
  input: z.unknown().optional(),
  command: runOptions.command.nullable(),
  config: c.runConfig.nullable().optional(),
  context: z.unknown().optional(),
  webhook: runOptions.webhook.nullable(),
  interrupt_before: runOptions.interrupt_before.nullable(),
  interrupt_after: runOptions.interrupt_after.nullable(),
  stream_mode: someStreamModes.nullable().optional(),
  stream_subgraphs: z.boolean().nullable().optional(),
  stream_resumable: z.boolean().nullable().optional(),
  durability: runOptions.durability.nullable(),
  checkpoint_during: runOptions.checkpoint_during.nullable(),
  multitask_strategy: multitaskStrategy.nullable().optional(),
  feedback_keys: runOptions.feedback_keys.nullable(),
  langsmith_tracer: runOptions.langsmith_tracer.nullable(),
  strict_resume: z.boolean().nullable().optional(),
}
type Options = z.output<z.ZodObject<typeof options>>

const given = (payload: Options): c.JsonObject =>
  Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined))

/** A payload with a change on it: null takes a value away. */
export const changed = (payload: c.JsonObject, change: c.JsonObject): c.JsonObject =>
  Object.fromEntries(Object.entries({ ...payload, ...change }).filter(([, value]) => value !== null))

const cronCreate = z.object({
  assistant_id: c.assistantId,
  schedule,
  timezone: c.maybe(timezone),
  end_time: c.maybe(endTime),
  metadata: c.or(c.object, {}),
  enabled: c.or(z.boolean(), true),
  ...options,
})

/** What making a cron takes. */
export interface CronCreate {
  assistant_id: string
  schedule: string
  timezone?: string | undefined
  end_time?: string | undefined
  metadata: c.JsonObject
  enabled: boolean
  /** Null on a thread. */
  on_run_completed: 'delete' | 'keep' | null
  payload: c.JsonObject
}

function toCronCreate(body: z.output<typeof cronCreate>, on_run_completed: 'delete' | 'keep' | null): CronCreate {
  const { assistant_id, schedule, timezone, end_time, metadata, enabled, ...payload } = body
  return {
    assistant_id,
    schedule,
    timezone,
    end_time,
    metadata,
    enabled,
    on_run_completed,
    payload: changed({}, given(payload)),
  }
}

export const statelessCron = cronCreate
  .extend({ on_run_completed: c.or(onRunCompleted, 'delete') })
  .transform(({ on_run_completed, ...body }) => toCronCreate(body, on_run_completed))
  .meta({ id: 'CronCreate' })

const kept = c.maybe(z.literal('keep', { error: 'must be left out on a thread, which is kept' }))

export const threadCron = cronCreate
  .extend({ on_run_completed: kept })
  .transform(({ on_run_completed: _, ...body }) => toCronCreate(body, null))
  .meta({ id: 'ThreadCronCreate' })

/** Absent keeps, null clears; metadata is merged. */
export const cronPatch = z
  .object({
    schedule: schedule.optional(),
    timezone: timezone.nullable().optional(),
    end_time: endTime.nullable().optional(),
    metadata: c.object.nullable().optional(),
    enabled: z.boolean().optional(),
    on_run_completed: onRunCompleted.nullable().optional(),
    ...options,
  })
  .transform(({ schedule, timezone, end_time, metadata, enabled, on_run_completed, ...payload }) => ({
    schedule,
    timezone,
    end_time,
    metadata,
    enabled,
    on_run_completed,
    payload: given(payload),
  }))
  .meta({ id: 'CronPatch' })
export type CronPatch = z.output<typeof cronPatch>

/** The body of a cron's runs, checked as if a client had sent it. `on_run_completed` is null on a thread. */
export const cronRun = (body: c.JsonObject, on_run_completed: 'delete' | 'keep' | null) =>
  on_run_completed === null
    ? statefulRun.safeParse(body, { error: explain })
    : statelessRun.safeParse({ ...body, on_completion: on_run_completed }, { error: explain })

const cronFilter = {
  assistant_id: c.maybe(c.assistantId),
  thread_id: c.maybe(c.id),
  enabled: c.maybe(z.boolean()),
  metadata: c.maybe(c.object),
}

export const cronCount = z.object(cronFilter)
export type CronCount = z.output<typeof cronCount>

export const cronSearch = z
  .object({
    ...cronFilter,
    limit: c.limit(10),
    offset: c.offset,
    sort_by: c.or(
      z.enum(['cron_id', 'assistant_id', 'thread_id', 'next_run_date', 'end_time', 'created_at', 'updated_at']),
      'created_at',
    ),
    sort_order: c.sortOrder,
    select: c.maybe(z.array(cronFields)),
  })
  .meta({ id: 'CronSearch' })
export type CronSearch = z.output<typeof cronSearch>

const params = z.object({ cron_id: c.id })
const creating = {
  method: 'POST',
  tag: 'Crons',
  permission: 'crons:create',
  reply: cron,
} as const

export const createThreadCron = endpoint({
  ...creating,
  path: '/threads/{thread_id}/runs/crons',
  summary: 'Create a cron whose runs are on a thread',
  description: 'It goes with its thread.',
  params: threadParams,
  body: threadCron,
  errors: ['assistant_not_found', 'graph_not_found', 'thread_not_found'],
})

export const createCron = endpoint({
  ...creating,
  path: '/runs/crons',
  summary: 'Create a cron whose runs have threads of their own',
  body: statelessCron,
  errors: ['assistant_not_found', 'graph_not_found'],
})

export const getCron = endpoint({
  method: 'GET',
  path: '/runs/crons/{cron_id}',
  tag: 'Crons',
  summary: 'Get a cron',
  permission: 'crons:read',
  params,
  reply: cron,
  errors: ['cron_not_found'],
})

export const patchCron = endpoint({
  method: 'PATCH',
  path: '/runs/crons/{cron_id}',
  tag: 'Crons',
  summary: 'Change a cron',
  description: 'What is absent stays, null clears; metadata is merged.',
  permission: 'crons:update',
  params,
  body: cronPatch,
  reply: cron,
  errors: ['cron_not_found', 'assistant_not_found'],
})

export const deleteCron = endpoint({
  method: 'DELETE',
  path: '/runs/crons/{cron_id}',
  tag: 'Crons',
  summary: 'Delete a cron',
  description: 'Runs that it has created go on.',
  permission: 'crons:delete',
  params,
  reply: z.object({}),
  errors: ['cron_not_found'],
})

export const searchCrons = endpoint({
  method: 'POST',
  path: '/runs/crons/search',
  tag: 'Crons',
  summary: 'Search crons',
  permission: 'crons:search',
  body: cronSearch,
  bodyOptional: true,
  reply: z.array(cron.extend({ now: c.time }).partial()),
  replyHeaders: c.pageHeaders,
})

export const countCrons = endpoint({
  method: 'POST',
  path: '/runs/crons/count',
  tag: 'Crons',
  summary: 'Count crons',
  permission: 'crons:search',
  body: cronCount,
  bodyOptional: true,
  reply: z.int(),
})
