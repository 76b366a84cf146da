// Creating runs. In charge of the decision that a thread's other runs call for (double texting), made under the thread's
// lock, and of handing the run to this process's worker in the same transaction when it has a free slot.

import { createHash } from 'node:crypto'
import type { WebhookConfig } from '../config.ts'
import type { Config } from '../contract/common.ts'
import type { RunCreate } from '../contract/runs.ts'
import type { AssistantRow } from '../db/assistants.ts'
import * as assistants from '../db/assistants.ts'
import type { Db } from '../db/db.ts'
import * as idempotency from '../db/idempotency.ts'
import * as newRuns from '../db/new-runs.ts'
import type { Claimed } from '../db/queue.ts'
import * as runs from '../db/runs.ts'
import { and, type Sql } from '../db/sql.ts'
import * as threads from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import type { RunArguments } from '../executor/protocol.ts'
import type { Registry } from '../graph/registry.ts'
import { newId } from '../ids.ts'
import { type CancelPlan, planCancel } from './cancel.ts'
import { webhookOf } from './webhooks.ts'

/** Asks for a run. */
export interface CreateRequest {
  /** Null makes a thread for it. */
  thread_id: string | null
  body: RunCreate
  visible: Sql
  /** Values for `config.configurable` that come from headers or from who is asking; they win over the body's. */
  configurable?: Record<string, unknown>
  /** The request's Idempotency-Key with the hash of what was asked. */
  idempotency?: { key: string; bodyHash: string }
  /** Set where what to run depends on how the thread stands. */
  decide?: Decide
}

/** A decision about a run on a thread that exists. */
export interface Decide {
  /** Where this holds of the thread, and nothing else wants to run on it, the body is the answer as it is. */
  asIs: Sql
  /** The body, by what is read under the thread's lock; throws where there is to be no run. */
  under(tx: Db): Promise<RunCreate>
}

export interface Creation {
  run: runs.RunRow
  /** Set when this process's worker is to start it now. */
  claimed: Claimed | undefined
  /** The thread's last event before the run, where the run is the thread's first to be running. */
  after: number
  /** True when the run was made by an earlier request with the same key. */
  replayed: boolean
  /** What was done to runs before it; to be announced after the commit. */
  cancelled: CancelPlan
  /** What it waits for, where it does not start now. */
  waits: Waits | undefined
}

/** What a new run waits for. */
export interface Waits {
  reason: 'not_before' | 'thread_busy' | 'no_free_slot'
  /** How many runs of its thread go before it. */
  position: number
  behind_run_id: string | null
}

export interface CreateDeps {
  db: Db
  registry: Registry
  known: KnownAssistants
  durability: 'sync' | 'async' | 'exit'
  /** The time to live of threads that are made for runs. */
  threadTtl?: threads.ThreadTtl | undefined
  /** Absent where webhooks are switched off. */
  webhooks?: WebhookConfig | undefined
}

/** Assistants as they were last read, to begin with; whether they are still so is asked with each use. */
export type KnownAssistants = Map<string, assistants.MarkedAssistant>

const MAX_KNOWN = 1_000

/** The hash that tells two uses of one Idempotency-Key apart. */
export const hashOf = (path: string, body: unknown): string =>
  createHash('sha256')
    .update(`${path}\n${JSON.stringify(body)}`)
    .digest('hex')

const nothingCancelled: CancelPlan = { ended: [], wished: [], settled: [] }

/** Makes one run. `workerId` is this process's worker when it has reserved a slot for the run, else null. */
export async function createRun(
  deps: CreateDeps,
  request: CreateRequest,
  ids: { run_id: string; thread_id: string },
  workerId: string | null,
): Promise<Creation> {
  const { db } = deps
  const made = await createAtOnce(deps, request, ids, workerId)
  if (made !== undefined) return made
  if (request.thread_id === null && request.idempotency === undefined) {
    const assistant = await readAssistant(db, deps, request)
    return createWithThread(db, deps, request, ids, assistant, workerId)
  }
  return db.tx(async (tx) => {
    const before = await repeated(tx, request, ids.run_id)
    if (before !== undefined) return before
    if (request.thread_id === null) {
      const assistant = await readAssistant(tx, deps, request)
      return createWithThread(tx, deps, request, ids, assistant, workerId)
    }
    // One round trip: the statements run one after the other, so the last sees what the lock had to wait for.
    const [assistant, locked, active] = await Promise.all([
      readAssistant(tx, deps, request),
      runs.lockThread(tx, request.thread_id, request.visible),
      runs.active(tx, request.thread_id),
    ])
    if (locked === undefined) {
      if (request.body.if_not_exists === 'reject') {
        throw new ApiError(
          'thread_not_found',
          `The thread ${request.thread_id} does not exist: create it first, or pass if_not_exists "create".`,
        )
      }
      return createWithThread(tx, deps, request, ids, assistant, workerId)
    }
    return createOnThread(tx, deps, request, ids, assistant, locked, active, workerId)
  })
}

/** The common case, in one statement: a known assistant, and a thread on which nothing else wants to run. Gives
 *  undefined where it is another case. */
async function createAtOnce(
  deps: CreateDeps,
  request: CreateRequest,
  ids: { run_id: string; thread_id: string },
  workerId: string | null,
): Promise<Creation | undefined> {
  const { db, registry, known } = deps
  const { visible } = request
  const assistant = known.get(registry.resolve(request.body.assistant_id))
  if (assistant === undefined || request.idempotency !== undefined) return undefined
  if (registry.graph(assistant.graph_id).error !== undefined) return undefined
  const run = newRun(deps, request, ids, assistant, { config: {} }, workerId)
  const unchanged = assistants.unchanged(assistant, visible)
  const made =
    request.thread_id === null
      ? await newRuns.insertWithThread(db, run, unchanged, deps.threadTtl)
      : await newRuns.insertFree(db, run, and([visible, unchanged, request.decide?.asIs]))
  return made && created(made, run, nothingCancelled)
}

/** The assistant a run is asked for of. Throws `assistant_not_found`, and `graph_load_failed`. */
export async function readAssistant(
  db: Db,
  { registry, known }: Pick<CreateDeps, 'registry' | 'known'>,
  request: CreateRequest,
): Promise<AssistantRow> {
  const id = registry.resolve(request.body.assistant_id)
  const assistant = await assistants.findMarked(db, id, request.visible)
  if (assistant === undefined)
    throw new ApiError('assistant_not_found', `The assistant ${request.body.assistant_id} does not exist.`)
  const graph = registry.graph(assistant.graph_id)
  if (graph.error !== undefined) throw new ApiError('graph_load_failed', graph.error)
  if (known.size >= MAX_KNOWN) known.clear()
  known.set(id, assistant)
  return assistant
}

async function repeated(db: Db, request: CreateRequest, runId: string): Promise<Creation | undefined> {
  if (request.idempotency === undefined) return undefined
  const { key, bodyHash } = request.idempotency
  const used = await idempotency.take(db, key, bodyHash, [runId])
  if (used === undefined) return undefined
  if (used.body_hash !== bodyHash) throw new ApiError('idempotency_conflict')
  const run = await runs.get(db, null, used.run_ids[0] as string, request.visible)
  if (run === undefined) {
    throw new ApiError('idempotency_conflict', 'This Idempotency-Key was used for a run that is gone: use a new one.')
  }
  return { run, claimed: undefined, after: 0, replayed: true, cancelled: nothingCancelled, waits: undefined }
}

async function createWithThread(
  db: Db,
  deps: CreateDeps,
  request: CreateRequest,
  ids: { run_id: string; thread_id: string },
  assistant: AssistantRow,
  workerId: string | null,
): Promise<Creation> {
  const run = newRun(deps, request, ids, assistant, { config: {} }, workerId)
  const insert = () => newRuns.insertWithThread(db, run, undefined, deps.threadTtl)
  const made = (await insert()) ?? ((await threads.removeExpired(db, ids.thread_id)) ? await insert() : undefined)
  // Another request has just made the thread: this one meets it as existing.
  if (made === undefined) {
    const locked = await runs.lockThread(db, ids.thread_id, request.visible)
    if (locked === undefined) throw new ApiError('thread_not_found')
    const active = await runs.active(db, ids.thread_id)
    return createOnThread(db, deps, request, ids, assistant, locked, active, workerId)
  }
  return created(made, run, nothingCancelled)
}

async function createOnThread(
  db: Db,
  deps: CreateDeps,
  asked: CreateRequest,
  ids: { run_id: string },
  assistant: AssistantRow,
  thread: runs.LockedThread,
  active: readonly runs.ActiveRun[],
  workerId: string | null,
): Promise<Creation> {
  const request = asked.decide ? { ...asked, body: await asked.decide.under(db) } : asked
  const strategy = request.body.multitask_strategy
  if (active.length > 0 && strategy === 'reject') {
    throw new ApiError(
      'thread_busy',
      `The thread is busy with run ${active[0]?.run_id}: wait for it, cancel it, or use another multitask_strategy.`,
    )
  }
  const cancelled =
    active.length > 0 && (strategy === 'interrupt' || strategy === 'rollback')
      ? await planCancel(db, thread.thread_id, active, strategy, `superseded by run ${ids.run_id} (${strategy})`)
      : nothingCancelled
  const before = active.filter(
    ({ run_id }) => ![...cancelled.ended, ...cancelled.settled].some((gone) => gone.run_id === run_id),
  )
  const startsNow = before.length === 0 && request.body.after_seconds === 0 ? workerId : null
  const run = newRun(deps, request, { ...ids, thread_id: thread.thread_id }, assistant, thread, startsNow)
  const made = await newRuns.insertLast(db, run)
  if (made === undefined) throw new ApiError('thread_not_found')
  return created(made, run, cancelled, before)
}

function created(
  made: newRuns.Inserted,
  run: newRuns.NewRun,
  cancelled: CancelPlan,
  before: readonly runs.ActiveRun[] = [],
): Creation {
  const { epoch, last_seq, state_updated_at, ...row } = made
  const claimed: Claimed | undefined =
    run.worker_id === null
      ? undefined
      : { ...run, metadata: row.metadata, attempt: 1, begun: false, epoch, last_seq, state_updated_at, waited_ms: 0 }
  const waits = claimed === undefined ? waitsFor(run, before) : undefined
  return { run: row, claimed, after: last_seq, replayed: false, cancelled, waits }
}

function waitsFor(run: newRuns.NewRun, active: readonly runs.ActiveRun[]): Waits {
  const before = active.filter(({ due }) => due)
  const reason = run.after_seconds > 0 ? 'not_before' : before.length > 0 ? 'thread_busy' : 'no_free_slot'
  const head = before.find(({ status }) => status === 'running') ?? before[0]
  return { reason, position: before.length, behind_run_id: head?.run_id ?? null }
}

const stamp = (assistant: AssistantRow) => ({ graph_id: assistant.graph_id, assistant_id: assistant.assistant_id })

function newRun(
  deps: CreateDeps,
  request: CreateRequest,
  ids: { run_id: string; thread_id: string },
  assistant: AssistantRow,
  thread: Pick<runs.LockedThread, 'config'>,
  workerId: string | null,
): newRuns.NewRun {
  const { body } = request
  const starts = body.after_seconds === 0
  return {
    ...ids,
    ...stamp(assistant),
    defaults: assistant.metadata,
    metadata: { ...body.metadata, ...stamp(assistant) },
    kwargs: { ...argumentsOf(deps, request, ids, assistant, thread) },
    multitask_strategy: body.multitask_strategy,
    after_seconds: body.after_seconds,
    temporary: request.thread_id === null && body.on_completion === 'delete',
    worker_id: starts ? workerId : null,
  }
}

/** What the executor is given, and what `kwargs` of the run shows: everything merged, nothing left to look up. */
function argumentsOf(
  deps: CreateDeps,
  request: CreateRequest,
  ids: { run_id: string; thread_id: string },
  assistant: AssistantRow,
  thread: Pick<runs.LockedThread, 'config'>,
): RunArguments & { on_disconnect: string; stream_resumable: boolean; webhook?: string } {
  const { body } = request
  const configurable = (config: Record<string, unknown>): Record<string, unknown> =>
    (config.configurable as Record<string, unknown> | undefined) ?? {}
  const config: Config = { ...assistant.config, ...thread.config, ...body.config }
  return {
    input: body.input ?? null,
    ...(body.command !== undefined && { command: body.command }),
    config: {
      ...config,
      configurable: {
        ...configurable(assistant.config),
        ...configurable(thread.config),
        ...configurable(body.config),
        ...request.configurable,
        ...ids,
        ...stamp(assistant),
      },
    },
    ...contextOf(assistant.context, body.context),
    ...(body.checkpoint !== undefined && { checkpoint: body.checkpoint }),
    stream_mode: body.stream_mode,
    stream_subgraphs: body.stream_subgraphs,
    stream_resumable: body.stream_resumable,
    ...(body.interrupt_before !== undefined && { interrupt_before: body.interrupt_before }),
    ...(body.interrupt_after !== undefined && { interrupt_after: body.interrupt_after }),
    durability: body.durability ?? config.durability ?? deps.durability,
    ...(body.strict_resume && { strict_resume: true }),
    ...(body.feedback_keys !== undefined && { feedback_keys: body.feedback_keys }),
    ...(body.langsmith_tracer !== undefined && { langsmith_tracer: body.langsmith_tracer }),
    on_disconnect: body.on_disconnect,
    ...(body.webhook !== undefined && { webhook: webhookOf(body.webhook, deps.webhooks) }),
    ...(body.protocol !== undefined && { protocol: body.protocol }),
  }
}

function contextOf(own: unknown, given: unknown): { context?: unknown } {
  const isObject = (value: unknown): value is object =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
  if (given === undefined) return own === null || own === undefined ? {} : { context: own }
  return { context: isObject(own) && isObject(given) ? { ...own, ...given } : given }
}

/** Ids for a run to be: made before it is, so that whoever follows it can listen first. */
export const newIds = (threadId: string | null): { run_id: string; thread_id: string } => ({
  run_id: newId(),
  thread_id: threadId ?? newId(),
})
