// What the API says of a thread's state: reading it now, at a checkpoint and over time, and changing it.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'
import { threadParams } from './threads.ts'

const FIELDS = ['values', 'next', 'tasks', 'checkpoint', 'metadata', 'created_at', 'parent_checkpoint', 'interrupts']

/** A field of a state, or `values.<key>`. */
const stateField = z
  .string()
  .refine((text) => FIELDS.includes(text) || (text.startsWith('values.') && text.length > 7), {
    error: `must be one of: ${FIELDS.join(', ')}, values.<key>`,
  })
const select = z.array(stateField)

const interrupt = z.looseObject({ id: z.string().optional(), value: z.unknown().optional() })
const task = z.looseObject({
  id: z.string(),
  name: z.string(),
  path: z.unknown().optional(),
  error: z.unknown(),
  interrupts: z.array(interrupt),
  checkpoint: checkpointOrNull(),
  state: z.unknown(),
  result: z.unknown().optional(),
})

function checkpointOrNull() {
  return c.checkpointReply.partial().nullable()
}

export const threadState = z
  .object({
    values: z.unknown(),
    next: z.array(z.string()),
    tasks: z.array(task),
    checkpoint: checkpointOrNull(),
    metadata: c.object.nullable(),
    created_at: c.time.nullable(),
    parent_checkpoint: checkpointOrNull(),
    interrupts: z.array(interrupt),
  })
  .meta({ id: 'ThreadState' })
export type ThreadState = z.output<typeof threadState>
const partialState = threadState.partial()

const stateQuery = z.object({ subgraphs: c.flag(false), select: c.list(stateField) })
export type StateQuery = z.output<typeof stateQuery>

export const stateUpdate = z
  .object({
    values: z.union([c.object, z.array(z.unknown()), z.null()]).optional(),
    as_node: c.maybe(z.string().min(1)),
    checkpoint: c.maybe(c.checkpoint),
    checkpoint_id: c.maybe(c.id),
  })
  .transform(({ values, as_node, checkpoint, checkpoint_id }) => ({
    values: values ?? null,
    as_node,
    checkpoint: c.checkpointOf(checkpoint, checkpoint_id),
  }))
  .meta({ id: 'StateUpdate' })
export type StateUpdate = z.output<typeof stateUpdate>

/** `before` as an id, a checkpoint, or a config with one. */
const before = z
  .union([c.id, z.object({ configurable: z.object({ checkpoint_id: c.id }) }), z.object({ checkpoint_id: c.id })])
  .transform((given): c.CheckpointRef => {
    if (typeof given === 'string') return { checkpoint_id: given }
    return { checkpoint_id: 'configurable' in given ? given.configurable.checkpoint_id : given.checkpoint_id }
  })

export const historySearch = z
  .object({
    limit: c.limit(10),
    before: c.maybe(before),
    metadata: c.maybe(c.object),
    checkpoint: c.maybe(c.checkpoint),
    select: c.maybe(select),
  })
  .meta({ id: 'HistorySearch' })
export type HistorySearch = z.output<typeof historySearch>

const reading = {
  tag: 'Threads',
  permission: 'threads:read',
  errors: ['thread_not_found', 'checkpoint_not_found', 'graph_not_found', 'graph_load_failed', 'executor_unavailable'],
} as const

export const getState = endpoint({
  ...reading,
  method: 'GET',
  path: '/threads/{thread_id}/state',
  summary: "Get a thread's state",
  params: threadParams,
  query: stateQuery,
  reply: partialState,
})

export const getStateAt = endpoint({
  ...reading,
  method: 'GET',
  path: '/threads/{thread_id}/state/{checkpoint_id}',
  summary: "Get a thread's state at a checkpoint",
  params: threadParams.extend({ checkpoint_id: c.id }),
  query: stateQuery,
  reply: partialState,
})

export const stateAt = z.object({
  checkpoint: c.checkpoint,
  subgraphs: c.or(z.boolean(), false),
  select: c.maybe(select),
})
export type StateAt = z.output<typeof stateAt>

export const postStateAt = endpoint({
  ...reading,
  method: 'POST',
  path: '/threads/{thread_id}/state/checkpoint',
  summary: "Get a thread's state at a checkpoint or in a subgraph",
  params: threadParams,
  body: stateAt,
  reply: partialState,
})

export const updateState = endpoint({
  method: 'POST',
  path: '/threads/{thread_id}/state',
  tag: 'Threads',
  summary: "Change a thread's state, or fork it",
  permission: 'threads:update',
  params: threadParams,
  body: stateUpdate,
  reply: z.object({
    checkpoint: c.checkpointReply,
    configurable: c.checkpointReply.meta({ description: 'The same, for clients that read it here.' }),
    checkpoint_id: z.string().nullable().optional(),
  }),
  errors: [...reading.errors, 'thread_busy', 'graph_has_no_state', 'invalid_update'],
})

export const patchState = endpoint({
  method: 'PATCH',
  path: '/threads/{thread_id}/state',
  tag: 'Threads',
  summary: "Merge metadata into a thread's latest checkpoint",
  permission: 'threads:update',
  params: threadParams,
  body: z.object({ metadata: c.object }),
  reply: 'none',
  errors: ['thread_not_found', 'checkpoint_not_found', 'thread_busy'],
})

export const getHistory = endpoint({
  ...reading,
  method: 'GET',
  path: '/threads/{thread_id}/history',
  summary: "Get a thread's states, newest first",
  params: threadParams,
  query: z.object({
    limit: c.queryLimit(10),
    before: c.id.optional().transform((checkpoint_id) => (checkpoint_id ? { checkpoint_id } : undefined)),
    select: c.list(stateField),
  }),
  reply: z.array(partialState),
})

export const searchHistory = endpoint({
  ...reading,
  method: 'POST',
  path: '/threads/{thread_id}/history',
  summary: "Search a thread's states, newest first",
  params: threadParams,
  body: historySearch,
  bodyOptional: true,
  reply: z.array(partialState),
})
