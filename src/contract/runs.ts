// What the API says of a run: its bodies and its row. Stateful and stateless bodies come to one shape, RunCreate, which is
// what creating a run takes. The endpoints are in thread-runs.ts and stateless-runs.ts.

import { z } from 'zod'
import * as c from './common.ts'

export const runStatus = z.enum(['pending', 'running', 'success', 'error', 'timeout', 'interrupted'])
export type RunStatus = z.output<typeof runStatus>

export const multitaskStrategy = z.enum(['reject', 'enqueue', 'interrupt', 'rollback'])
export type MultitaskStrategy = z.output<typeof multitaskStrategy>

export const run = z
  .object({
    run_id: z.string(),
    thread_id: z.string(),
    assistant_id: z.string(),
    created_at: c.time,
    updated_at: c.time,
    status: runStatus,
    metadata: c.object,
    kwargs: c.object,
    multitask_strategy: multitaskStrategy,
    langsmith_session_name: z.string().nullable().optional(),
    cancel_reason: z.string().nullable(),
    attempt: z
      .number()
      .int()
      .optional()
      .describe('How often it was begun. This and what follows is said when a run is read.'),
    waiting: z
      .object({
        reason: z
          .enum(['not_before', 'thread_busy', 'no_worker', 'graph_not_served', 'no_free_slot'])
          .describe(
            'Its time has not come; other runs of its thread go first; no worker is alive; every slot of every worker is taken.',
          ),
        position: z.number().int().describe('How many runs of its thread go before it.'),
        behind_run_id: z.string().nullable().describe("The run at the head of its thread's line."),
        available_at: c.time.describe('It does not begin before this.'),
      })
      .nullable()
      .optional()
      .describe('Why it waits, while it is pending.'),
    worker_alive: z
      .boolean()
      .nullable()
      .optional()
      .describe('While it runs: whether its worker lives. If not, another takes it over.'),
  })
  .meta({ id: 'Run' })
export type Run = z.output<typeof run>

export const runFields = z.enum([
  'run_id',
  'thread_id',
  'assistant_id',
  'created_at',
  'updated_at',
  'status',
  'metadata',
  'kwargs',
  'multitask_strategy',
  'langsmith_session_name',
  'cancel_reason',
  'attempt',
  'waiting',
  'worker_alive',
])

export const streamMode = z.enum([
  'values',
  'updates',
  'messages',
  'messages-tuple',
  'events',
  'debug',
  'tasks',
  'checkpoints',
  'custom',
  'tools',
  'lifecycle',
])
export type StreamMode = z.output<typeof streamMode>

/** One stream mode or several. */
export const someStreamModes = z.union([streamMode, z.array(streamMode)])

const streamModes = c.or(someStreamModes, ['values']).transform((given): StreamMode[] => {
  const modes = typeof given === 'string' ? [given] : [...new Set(given)]
  return modes.length ? modes : ['values']
})

const nodes = c
  .maybe(z.union([z.literal('*'), z.array(z.string().min(1))]))
  .transform((given): '*' | string[] | undefined => {
    if (Array.isArray(given)) return given.includes('*') ? '*' : given.length ? given : undefined
    return given
  })

const tracer = z
  .object({ project_name: c.maybe(z.string()), example_id: c.maybe(z.string()) })
  .transform(({ project_name, example_id }) => ({
    ...(project_name !== undefined && { project_name }),
    ...(example_id !== undefined && { example_id }),
  }))

/** The fields of a run's body that say how it is to run. */
export const runOptions = {
  input: z.unknown().optional(),
  command: c.maybe(c.command),
  config: c.or(c.runConfig, {}),
  context: c.maybe(z.unknown()),
  metadata: c.or(c.object, {}),
  interrupt_before: nodes,
  interrupt_after: nodes,
  stream_mode: streamModes,
  stream_subgraphs: c.or(z.boolean(), false),
  stream_resumable: c.or(z.boolean(), false),
  feedback_keys: c.maybe(z.array(z.string().min(1)).max(100)),
  after_seconds: c.or(z.number().min(0).max(315_360_000), 0),
  durability: c.maybe(z.enum(['sync', 'async', 'exit'])),
  checkpoint_during: c.maybe(z.boolean()),
  strict_resume: c.or(z.boolean(), false),
  langsmith_tracer: c.maybe(tracer),
  on_disconnect: c.or(z.enum(['cancel', 'continue']), 'continue'),
  webhook: c.maybe(z.string().min(1).max(65_536)),
}
type Given = z.output<z.ZodObject<typeof runOptions>>

/** What creating a run takes. `input` null or absent (and no command) goes on from the thread's state. */
export interface RunCreate extends RunOptions {
  assistant_id: string
}

/** What is asked of a run, whichever assistant it is of. */
export interface RunOptions {
  input?: unknown
  command?: c.Command
  config: c.Config
  context?: unknown
  metadata: c.JsonObject
  /** Where to fork from. */
  checkpoint?: c.CheckpointRef
  interrupt_before?: '*' | string[]
  interrupt_after?: '*' | string[]
  stream_mode: StreamMode[]
  stream_subgraphs: boolean
  stream_resumable: boolean
  feedback_keys?: string[]
  after_seconds: number
  /** Undefined: the server's default. */
  durability?: 'sync' | 'async' | 'exit'
  strict_resume: boolean
  langsmith_tracer?: { project_name?: string; example_id?: string }
  on_disconnect: 'cancel' | 'continue'
  /** Where to say that the run has ended, and how. */
  webhook?: string
  multitask_strategy: MultitaskStrategy
  if_not_exists: 'create' | 'reject'
  /** `delete` only for stateless runs: the thread made for the run goes when it ends. */
  on_completion: 'delete' | 'keep'
  /** Which readers it is logged for besides those of runs. */
  protocol?: 'v2'
}

type Own = Pick<RunOptions, 'checkpoint' | 'multitask_strategy' | 'if_not_exists' | 'on_completion' | 'protocol'>

const isEmpty = (input: unknown): boolean =>
  input === undefined || input === null || (typeof input === 'object' && Object.keys(input).length === 0)

/** The options that a body's fields come to; what contradicts itself becomes an issue of the context. */
export function optionsOf(given: Given, own: Own, context: z.RefinementCtx): RunOptions {
  const { checkpoint_during, ...kept } = given
  if (given.command && !isEmpty(given.input)) {
    context.addIssue({ code: 'custom', path: ['input'], message: 'cannot be given together with command' })
  }
  if (given.command) kept.input = undefined
  const { checkpoint_id, ...configurable } = given.config.configurable ?? {}
  const forked = checkpoint_id === undefined || checkpoint_id === null ? undefined : c.id.safeParse(checkpoint_id)
  if (forked && !forked.success) {
    context.addIssue({ code: 'custom', path: ['config', 'configurable', 'checkpoint_id'], message: 'must be a UUID' })
  }
  const during = checkpoint_during === undefined ? undefined : checkpoint_during ? 'async' : 'exit'
  return {
    ...kept,
    ...own,
    config: given.config.configurable ? { ...given.config, configurable } : given.config,
    checkpoint: c.checkpointOf(own.checkpoint, forked?.data),
    durability: given.durability ?? during,
  }
}

/** The body of a run on a thread. */
export const statefulRun = z
  .object({
    assistant_id: c.assistantId,
    ...runOptions,
    checkpoint: c.maybe(c.checkpoint),
    checkpoint_id: c.maybe(c.id),
    multitask_strategy: c.or(multitaskStrategy, 'enqueue'),
    if_not_exists: c.or(z.enum(['create', 'reject']), 'reject'),
  })
  .transform((given, context): RunCreate => {
    const { assistant_id, checkpoint, checkpoint_id, multitask_strategy, if_not_exists, ...rest } = given
    const ref = c.checkpointOf(checkpoint, checkpoint_id)
    const own = { checkpoint: ref, multitask_strategy, if_not_exists, on_completion: 'keep' } as const
    return { assistant_id, ...optionsOf(rest, own, context) }
  })
  .meta({ id: 'RunCreateStateful' })

/** The body of a run on a thread of its own. */
export const statelessRun = z
  .object({
    assistant_id: c.assistantId,
    ...runOptions,
    on_completion: c.or(z.enum(['delete', 'keep']), 'delete'),
  })
  .transform(({ assistant_id, on_completion, ...rest }, context): RunCreate => {
    const own = { multitask_strategy: 'enqueue', if_not_exists: 'create', on_completion } as const
    return { assistant_id, ...optionsOf(rest, own, context) }
  })
  .meta({ id: 'RunCreateStateless' })

/** The list of stream modes in a query. */
export const queryStreamModes = c.list(streamMode, { comma: true })
/** Subgraph namespaces to stream, `""` for the root. */
export const queryNamespaces = c.list(z.string().max(8192))
