// What the API says of assistants: bodies, replies and endpoints.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'

export const assistant = z
  .object({
    assistant_id: z.string(),
    graph_id: z.string(),
    name: z.string(),
    description: z.string().nullable(),
    config: c.configReply,
    context: z.unknown(),
    metadata: c.object,
    version: z.int(),
    created_at: c.time,
    updated_at: c.time,
  })
  .meta({ id: 'Assistant' })
export type Assistant = z.output<typeof assistant>

export const assistantVersion = assistant.omit({ updated_at: true }).meta({ id: 'AssistantVersion' })
export type AssistantVersion = z.output<typeof assistantVersion>

export const assistantFields = z.enum([
  'assistant_id',
  'graph_id',
  'name',
  'description',
  'config',
  'context',
  'created_at',
  'updated_at',
  'metadata',
  'version',
])

const graphId = z.string().min(1).max(512)
const name = z.string().max(512)
const description = z.string().max(65_536)
const params = z.object({ assistant_id: c.assistantId })

export const assistantCreate = z
  .object({
    assistant_id: c.maybe(c.id),
    graph_id: graphId,
    name: c.or(name, 'Untitled'),
    description: c.maybe(description),
    config: c.or(c.config, {}),
    context: c.maybe(z.unknown()),
    metadata: c.or(c.object, {}),
    if_exists: c.or(z.enum(['raise', 'do_nothing']), 'raise'),
  })
  .meta({ id: 'AssistantCreate' })
export type AssistantCreate = z.output<typeof assistantCreate>

/** Absent and null mean unchanged, except that a null description clears it. */
export const assistantPatch = z
  .object({
    graph_id: c.maybe(graphId),
    name: c.maybe(name),
    description: description.nullable().optional(),
    config: c.maybe(c.config),
    context: c.maybe(z.unknown()),
    metadata: c.maybe(c.object),
  })
  .meta({ id: 'AssistantPatch' })
export type AssistantPatch = z.output<typeof assistantPatch>

const assistantFilter = {
  metadata: c.maybe(c.object),
  graph_id: c.maybe(graphId),
  name: c.maybe(name),
}

export const assistantCount = z.object(assistantFilter)
export type AssistantCount = z.output<typeof assistantCount>

export const assistantSearch = z
  .object({
    ...assistantFilter,
    limit: c.limit(10),
    offset: c.offset,
    sort_by: c.or(z.enum(['assistant_id', 'created_at', 'updated_at', 'name', 'graph_id']), 'created_at'),
    sort_order: c.sortOrder,
    select: c.maybe(z.array(assistantFields)),
  })
  .meta({ id: 'AssistantSearch' })
export type AssistantSearch = z.output<typeof assistantSearch>

export const versionsSearch = z.object({
  metadata: c.maybe(c.object),
  limit: c.limit(10),
  offset: c.offset,
})
export type VersionsSearch = z.output<typeof versionsSearch>

const version = z.int().min(1).max(2_147_483_647)

const schemas = {
  input_schema: z.unknown(),
  output_schema: z.unknown(),
  state_schema: z.unknown(),
  config_schema: z.unknown(),
  context_schema: z.unknown(),
}
export const graphSchemas = z.object({ graph_id: z.string(), ...schemas }).meta({ id: 'GraphSchemas' })
export type GraphSchemas = z.output<typeof graphSchemas>

export const graphDrawing = z
  .object({
    nodes: z.array(
      z.looseObject({
        id: z.union([z.string(), z.int()]),
        type: z.string().optional(),
        data: z.unknown().optional(),
        metadata: z.unknown().optional(),
      }),
    ),
    edges: z.array(
      z.looseObject({
        source: z.string(),
        target: z.string(),
        data: z.string().optional(),
        conditional: z.boolean().optional(),
      }),
    ),
  })
  .meta({ id: 'GraphDrawing' })
export type GraphDrawing = z.output<typeof graphDrawing>

const subgraphs = z.record(z.string(), z.object(schemas))
export type Subgraphs = z.output<typeof subgraphs>
const subgraphsQuery = z.object({ recurse: c.flag(false) })

const xray = z
  .string()
  .optional()
  .transform((text, context): boolean | number => {
    const lower = text?.toLowerCase()
    if (lower === undefined || lower === 'false' || lower === '0') return false
    if (lower === 'true') return true
    const depth = /^\d{1,4}$/.test(lower) ? Number(lower) : undefined
    if (depth === undefined) context.addIssue({ code: 'custom', message: 'must be true, false or a depth' })
    return depth ?? false
  })

const read = { tag: 'Assistants', permission: 'assistants:read', errors: ['assistant_not_found'] } as const
const drawn = {
  ...read,
  errors: ['assistant_not_found', 'graph_not_found', 'graph_load_failed', 'graph_failed', 'executor_unavailable'],
} as const

export const createAssistant = endpoint({
  method: 'POST',
  path: '/assistants',
  tag: 'Assistants',
  summary: 'Create an assistant',
  permission: 'assistants:create',
  body: assistantCreate,
  reply: assistant,
  errors: ['graph_not_found', 'assistant_exists'],
})

export const searchAssistants = endpoint({
  method: 'POST',
  path: '/assistants/search',
  tag: 'Assistants',
  summary: 'Search assistants',
  permission: 'assistants:search',
  body: assistantSearch,
  bodyOptional: true,
  reply: z.array(assistant.partial()),
  replyHeaders: c.pageHeaders,
})

export const countAssistants = endpoint({
  method: 'POST',
  path: '/assistants/count',
  tag: 'Assistants',
  summary: 'Count assistants',
  permission: 'assistants:search',
  body: assistantCount,
  bodyOptional: true,
  reply: z.int(),
})

export const getAssistant = endpoint({
  ...read,
  method: 'GET',
  path: '/assistants/{assistant_id}',
  summary: 'Get an assistant',
  params,
  reply: assistant,
})

export const deleteAssistant = endpoint({
  method: 'DELETE',
  path: '/assistants/{assistant_id}',
  tag: 'Assistants',
  summary: 'Delete an assistant',
  description: 'Its runs that are pending or running are cancelled. With `delete_threads` its threads go too.',
  permission: 'assistants:delete',
  params,
  query: z.object({ delete_threads: c.flag(false) }),
  reply: z.object({}),
  errors: ['assistant_not_found'],
})

export const patchAssistant = endpoint({
  method: 'PATCH',
  path: '/assistants/{assistant_id}',
  tag: 'Assistants',
  summary: 'Change an assistant',
  description: 'Makes a new version, which becomes the latest. Metadata is merged.',
  permission: 'assistants:update',
  params,
  body: assistantPatch,
  reply: assistant,
  errors: ['assistant_not_found', 'graph_not_found'],
})

export const getGraph = endpoint({
  ...drawn,
  method: 'GET',
  path: '/assistants/{assistant_id}/graph',
  summary: "Get the drawing of an assistant's graph",
  params,
  query: z.object({ xray }),
  reply: graphDrawing,
})

export const getSchemas = endpoint({
  ...drawn,
  method: 'GET',
  path: '/assistants/{assistant_id}/schemas',
  summary: "Get the schemas of an assistant's graph",
  params,
  reply: graphSchemas,
})

export const getSubgraphs = endpoint({
  ...drawn,
  method: 'GET',
  path: '/assistants/{assistant_id}/subgraphs',
  summary: "Get the schemas of an assistant's subgraphs",
  params,
  query: subgraphsQuery,
  reply: subgraphs,
})

export const getSubgraphsAt = endpoint({
  ...drawn,
  method: 'GET',
  path: '/assistants/{assistant_id}/subgraphs/{namespace}',
  summary: 'Get the schemas of the subgraphs in a namespace',
  params: params.extend({ namespace: z.string().min(1).max(8192) }),
  query: subgraphsQuery,
  reply: subgraphs,
})

export const searchVersions = endpoint({
  method: 'POST',
  path: '/assistants/{assistant_id}/versions',
  tag: 'Assistants',
  summary: "Search an assistant's versions, newest first",
  permission: 'assistants:read',
  params,
  body: versionsSearch,
  bodyOptional: true,
  reply: z.array(assistantVersion),
  errors: ['assistant_not_found'],
})

export const setLatest = endpoint({
  method: 'POST',
  path: '/assistants/{assistant_id}/latest',
  tag: 'Assistants',
  summary: 'Make a version the latest',
  description: '`version` is taken from the body, or else from the query.',
  permission: 'assistants:update',
  params,
  query: z.object({ version: c.queryNumber(1) }),
  body: z.object({ version: c.maybe(version) }),
  bodyOptional: true,
  reply: assistant,
  errors: ['assistant_not_found', 'version_not_found'],
})
