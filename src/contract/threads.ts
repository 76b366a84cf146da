// What the API says of threads: bodies, replies and endpoints, without those of their state (state.ts).

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'

export const threadStatus = z.enum(['idle', 'busy', 'interrupted', 'error'])
export type ThreadStatus = z.output<typeof threadStatus>

export const thread = z
  .object({
    thread_id: z.string(),
    created_at: c.time,
    updated_at: c.time,
    state_updated_at: c.time.nullable(),
    metadata: c.object,
    config: c.configReply,
    status: threadStatus,
    values: z.unknown(),
    interrupts: z.record(z.string(), z.array(z.unknown())),
    error: z.unknown().optional(),
    ttl: z
      .object({ strategy: z.enum(['delete', 'keep_latest']), ttl_minutes: z.number(), expires_at: c.time })
      .nullable()
      .optional(),
    extracted: c.object.optional(),
  })
  .meta({ id: 'Thread' })
export type Thread = z.output<typeof thread>

export const threadFields = z.enum([
  'thread_id',
  'created_at',
  'updated_at',
  'state_updated_at',
  'metadata',
  'config',
  'context',
  'status',
  'values',
  'interrupts',
])

const minutes = z.number().positive().max(100_000_000)
const ttl = z
  .union([minutes, z.object({ ttl: minutes, strategy: c.or(z.enum(['delete', 'keep_latest']), 'delete') })])
  .transform((given) => (typeof given === 'number' ? { ttl: given, strategy: 'delete' as const } : given))
export type ThreadTtl = z.output<typeof ttl>

const superstep = z.object({
  updates: z
    .array(
      z.object({
        values: z.unknown().optional(),
        command: c.maybe(c.command),
        as_node: z.string().min(1),
      }),
    )
    .min(1),
})

export const threadCreate = z
  .object({
    thread_id: c.maybe(c.id),
    metadata: c.or(c.object, {}),
    if_exists: c.or(z.enum(['raise', 'do_nothing']), 'raise'),
    ttl: c.maybe(ttl),
    supersteps: c.maybe(z.array(superstep)),
  })
  .meta({ id: 'ThreadCreate' })
export type ThreadCreate = z.output<typeof threadCreate>

/** Metadata is merged; absent and null mean unchanged. */
export const threadPatch = z.object({ metadata: c.maybe(c.object), ttl: c.maybe(ttl) }).meta({ id: 'ThreadPatch' })
export type ThreadPatch = z.output<typeof threadPatch>

const STEP = /\.([^.[\]]+)|\[(-?\d{1,9})\]/y
const ROOTS = ['values', 'metadata', 'config', 'interrupts']

/** A path like `values.messages[-1].content` as its steps: names, and indexes (negative ones count from the end). */
const extractPath = z
  .string()
  .max(1024)
  .transform((text, context): (string | number)[] => {
    const root = ROOTS.find((name) => text === name || text.startsWith(`${name}.`) || text.startsWith(`${name}[`))
    const steps: (string | number)[] = root === undefined ? [] : [root]
    const pattern = new RegExp(STEP)
    pattern.lastIndex = root?.length ?? 0
    while (root !== undefined && pattern.lastIndex < text.length) {
      const match = pattern.exec(text)
      if (!match) break
      steps.push(match[1] ?? Number(match[2]))
      if (pattern.lastIndex === text.length) return steps
    }
    if (text !== root) {
      const message = `must be a path from ${ROOTS.join(', ')}, such as values.messages[-1]`
      context.addIssue({ code: 'custom', message })
    }
    return steps
  })

const threadFilter = {
  metadata: c.maybe(c.object),
  values: c.maybe(c.object),
  status: c.maybe(threadStatus),
}

export const threadCount = z.object(threadFilter)
export type ThreadCount = z.output<typeof threadCount>

export const threadSearch = z
  .object({
    ...threadFilter,
    ids: c.maybe(z.array(c.id).max(10_000)),
    limit: c.limit(10),
    offset: c.offset,
    sort_by: c.or(z.enum(['thread_id', 'status', 'created_at', 'updated_at', 'state_updated_at']), 'created_at'),
    sort_order: c.sortOrder,
    select: c.maybe(z.array(threadFields)),
    extract: c.maybe(
      z
        .record(z.string().min(1).max(256), extractPath)
        .refine((paths) => Object.keys(paths).length <= 10, { error: 'must have at most 10 paths' }),
    ),
  })
  .meta({ id: 'ThreadSearch' })
export type ThreadSearch = z.output<typeof threadSearch>

export const threadPrune = z.object({
  thread_ids: z.array(c.id).max(10_000),
  strategy: c.or(z.enum(['delete', 'keep_latest']), 'delete'),
})
export type ThreadPrune = z.output<typeof threadPrune>

const sized = z.object({ count: z.int(), bytes: z.int() })
export const threadStorage = z
  .object({
    thread_id: z.string(),
    total_bytes: z.int(),
    checkpoints: sized,
    channel_values: sized.extend({
      by_channel: z.record(z.string(), z.object({ versions: z.int(), bytes: z.int() })),
    }),
    pending_writes: sized,
  })
  .meta({ id: 'ThreadStorage' })
export type ThreadStorage = z.output<typeof threadStorage>

export const threadParams = z.object({ thread_id: c.id })

export const createThread = endpoint({
  method: 'POST',
  path: '/threads',
  tag: 'Threads',
  summary: 'Create a thread',
  description: '`supersteps` builds its state at once; they need `metadata.graph_id`.',
  permission: 'threads:create',
  body: threadCreate,
  bodyOptional: true,
  reply: thread,
  errors: ['thread_exists', 'graph_not_found', 'graph_has_no_state', 'invalid_update'],
})

export const searchThreads = endpoint({
  method: 'POST',
  path: '/threads/search',
  tag: 'Threads',
  summary: 'Search threads',
  permission: 'threads:search',
  body: threadSearch,
  bodyOptional: true,
  reply: z.array(thread.partial()),
  replyHeaders: c.pageHeaders,
})

export const countThreads = endpoint({
  method: 'POST',
  path: '/threads/count',
  tag: 'Threads',
  summary: 'Count threads',
  permission: 'threads:search',
  body: threadCount,
  bodyOptional: true,
  reply: z.int(),
})

export const pruneThreads = endpoint({
  method: 'POST',
  path: '/threads/prune',
  tag: 'Threads',
  summary: 'Delete threads, or all but their latest checkpoints',
  permission: 'threads:delete',
  body: threadPrune,
  reply: z.object({ pruned_count: z.int() }),
})

export const getThreadStorage = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/storage',
  tag: 'Threads',
  summary: 'Measure what a thread takes in the database',
  permission: 'threads:read',
  params: threadParams,
  reply: threadStorage,
  errors: ['thread_not_found', 'storage_unmeasured'],
})

export const getThread = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}',
  tag: 'Threads',
  summary: 'Get a thread',
  permission: 'threads:read',
  params: threadParams,
  query: z.object({ include: c.list(z.enum(['ttl']), { comma: true }) }),
  reply: thread,
  errors: ['thread_not_found'],
})

export const patchThread = endpoint({
  method: 'PATCH',
  path: '/threads/{thread_id}',
  tag: 'Threads',
  summary: 'Change a thread',
  permission: 'threads:update',
  params: threadParams,
  body: threadPatch,
  headers: { Prefer: '`return=minimal` answers 204 without a body.' },
  reply: thread,
  errors: ['thread_not_found'],
})

export const deleteThread = endpoint({
  method: 'DELETE',
  path: '/threads/{thread_id}',
  tag: 'Threads',
  summary: 'Delete a thread with its runs and checkpoints',
  permission: 'threads:delete',
  params: threadParams,
  reply: z.object({}),
  errors: ['thread_not_found'],
})

export const copyThread = endpoint({
  method: 'POST',
  path: '/threads/{thread_id}/copy',
  tag: 'Threads',
  summary: 'Copy a thread with its checkpoints',
  permission: 'threads:create',
  params: threadParams,
  reply: thread,
  errors: ['thread_not_found'],
})

const streamModes = c.list(z.enum(['run_modes', 'lifecycle', 'state_update']), { comma: true })

export const streamThread = endpoint({
  method: 'GET',
  path: '/threads/{thread_id}/stream',
  tag: 'Threads',
  summary: 'Follow every run of a thread',
  description: 'The stream does not end by itself.',
  permission: 'threads:read',
  params: threadParams,
  query: z
    .object({ stream_mode: streamModes, stream_modes: streamModes })
    .transform(({ stream_mode, stream_modes }) => ({
      stream_mode: stream_mode ?? stream_modes ?? (['run_modes'] as ('run_modes' | 'lifecycle' | 'state_update')[]),
    })),
  headers: { 'Last-Event-ID': 'Only events after this one are sent; `-` sends all that are kept.' },
  reply: 'sse',
  errors: ['thread_not_found'],
})
