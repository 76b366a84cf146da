// The config a graph runs with. In charge of which names the server owns: thread_id, run_id and their like always come from
// the job, never from what a client sent.

import type { RunnableConfig } from './graph.ts'
import type { LangChain } from './langchain.ts'
import type { CheckpointRef, Job, StateConfig } from './protocol.ts'

/** What LangGraph reads a lent checkpointer from; a graph's own one, if any, then has no say. */
const CHECKPOINTER = '__pregel_checkpointer'
const STRICT_RESUME = '__pregel_strict_resume'

/** Parts of the config that only the executor has. */
export interface RunParts {
  saver: unknown
  store: unknown
  signal: AbortSignal
  callbacks: readonly unknown[]
  /** Where this server is reached, for traces. */
  apiUrl?: string
}

/** The config for a job. */
export function configOf(job: Job, langchain: LangChain, parts: RunParts): RunnableConfig {
  const { args } = job
  const { configurable, metadata, recursion_limit, max_concurrency, run_name, callbacks: _, ...rest } = args.config
  return {
    ...plain(rest),
    ...(recursion_limit === undefined ? {} : { recursionLimit: recursion_limit }),
    ...(typeof max_concurrency === 'number' ? { maxConcurrency: max_concurrency } : {}),
    ...(typeof run_name === 'string' ? { runName: run_name } : {}),
    ...(args.context === undefined || args.context === null ? {} : { context: args.context }),
    ...(args.interrupt_before === undefined ? {} : { interruptBefore: args.interrupt_before }),
    ...(args.interrupt_after === undefined ? {} : { interruptAfter: args.interrupt_after }),
    configurable: {
      ...withoutInternals(configurable),
      ...addressOf(args.checkpoint),
      ...(args.strict_resume ? { [STRICT_RESUME]: true } : {}),
      [CHECKPOINTER]: parts.saver,
      thread_id: job.thread_id,
      run_id: job.run_id,
      graph_id: job.graph_id,
      assistant_id: job.assistant_id,
    },
    metadata: { ...(metadata as object | undefined), ...metadataOf(job, langchain, parts.apiUrl) },
    runId: job.run_id,
    durability: args.durability,
    store: parts.store,
    signal: parts.signal,
    ...(parts.callbacks.length === 0 ? {} : { callbacks: parts.callbacks }),
  }
}

const metadataOf = (job: Job, langchain: LangChain, apiUrl: string | undefined): Record<string, unknown> => ({
  ...job.metadata,
  run_id: job.run_id,
  thread_id: job.thread_id,
  graph_id: job.graph_id,
  assistant_id: job.assistant_id,
  run_attempt: job.attempt,
  langgraph_version: langchain.version,
  langgraph_plan: 'developer',
  langgraph_host: 'self-hosted',
  ...(apiUrl === undefined ? {} : { langgraph_api_url: apiUrl }),
})

/** The config for reading or updating a thread's state. */
export function stateConfigOf(
  config: StateConfig,
  thread_id: string,
  checkpoint: CheckpointRef | undefined,
  checkpointer?: unknown,
): RunnableConfig {
  const { configurable, recursion_limit, ...rest } = config
  return {
    ...plain(rest),
    ...(typeof recursion_limit === 'number' ? { recursionLimit: recursion_limit } : {}),
    configurable: {
      ...withoutInternals(configurable),
      ...addressOf(checkpoint),
      ...(checkpointer === undefined ? {} : { [CHECKPOINTER]: checkpointer }),
      thread_id,
    },
  }
}

const addressOf = (checkpoint: CheckpointRef | null | undefined): Record<string, unknown> => ({
  ...(checkpoint?.checkpoint_id ? { checkpoint_id: checkpoint.checkpoint_id } : {}),
  ...(checkpoint?.checkpoint_ns ? { checkpoint_ns: checkpoint.checkpoint_ns } : {}),
  ...(checkpoint?.checkpoint_map ? { checkpoint_map: checkpoint.checkpoint_map } : {}),
})

const RESERVED = new Set(['checkpoint_id', 'checkpoint_ns', 'checkpoint_map'])

const withoutInternals = (configurable: Record<string, unknown> = {}): Record<string, unknown> =>
  Object.fromEntries(Object.entries(configurable).filter(([key]) => !key.startsWith('__') && !RESERVED.has(key)))

// What a client may set beside configurable: names that LangGraph gives another meaning, or takes functions for, stay out.
const FORBIDDEN = new Set([
  'signal',
  'store',
  'writer',
  'cache',
  'runId',
  'streamMode',
  'subgraphs',
  'durability',
  'control',
])

const plain = (rest: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(rest).filter(([key, value]) => !FORBIDDEN.has(key) && value !== null))
