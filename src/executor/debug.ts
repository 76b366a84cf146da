// The payloads of `checkpoints` and `debug`: LangGraph's own, with configs in the API's form and without internals.

import type { RunnableConfig } from './graph.ts'

/** The event of a note on the checkpoint that the next values of its namespace belong to: `{id, parent_id?, step, source}`.
 *  Clients of v1 do not see it. */
export const NOTE = '__note'

type Fields = Record<string, unknown>

const isObject = (value: unknown): value is Fields => typeof value === 'object' && value !== null

/** A checkpoint's address as the API gives it; null where the config has none. */
export function checkpointOf(config: unknown): Fields | null {
  const configurable = (config as RunnableConfig | undefined)?.configurable
  if (!configurable?.thread_id) return null
  return {
    thread_id: configurable.thread_id,
    checkpoint_ns: configurable.checkpoint_ns ?? '',
    checkpoint_id: configurable.checkpoint_id ?? null,
    checkpoint_map: configurable.checkpoint_map ?? null,
  }
}

/** The payload of a `checkpoints` event; undefined for a mere note on a checkpoint. */
export function checkpointPayload(payload: unknown): Fields | undefined {
  if (!isObject(payload) || !('config' in payload)) return undefined
  const { config, parentConfig, tasks, ...rest } = payload
  return {
    ...rest,
    config: printable(config),
    parent_config: printable(parentConfig),
    checkpoint: checkpointOf(config),
    parent_checkpoint: checkpointOf(parentConfig),
    tasks: Array.isArray(tasks) ? tasks.map(taskOf) : [],
  }
}

/** The payload of a `debug` event. */
export function debugPayload(event: unknown): unknown {
  if (!isObject(event) || event.type !== 'checkpoint') return event
  return { ...event, payload: checkpointPayload(event.payload) ?? event.payload }
}

// A task's subgraph is named by its address, unless its whole state is there.
function taskOf(task: unknown): unknown {
  if (!isObject(task) || !isObject(task.state) || !('configurable' in task.state)) return task
  const { state, ...rest } = task
  return { ...rest, checkpoint: checkpointOf(state) }
}

function printable(config: unknown): unknown {
  if (!isObject(config)) return null
  const { callbacks: _, configurable, ...rest } = config
  return { ...rest, ...(isObject(configurable) ? { configurable: withoutInternals(configurable) } : {}) }
}

const withoutInternals = (configurable: Fields): Fields =>
  Object.fromEntries(
    Object.entries(configurable).filter(([key]) => !key.startsWith('__') && !key.startsWith('langgraph_auth_')),
  )
