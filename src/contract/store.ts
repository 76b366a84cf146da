// What the API says of the store: items under namespaces.

import { z } from 'zod'
import * as c from './common.ts'
import { endpoint } from './endpoint.ts'

const encoder = new TextEncoder()
const bytes = (text: string) => encoder.encode(text).length

// Postgres takes index entries of at most 2704 bytes; namespace and key are one entry
const MAX_LABEL = 512
const MAX_LABELS = 16
const MAX_ADDRESS = 2048

const short = z
  .string()
  .refine((text) => bytes(text) <= MAX_LABEL, { error: `must be at most ${MAX_LABEL} bytes long` })
const label = short.min(1).refine((text) => !text.includes('.'), { error: 'must not contain a dot' })
const key = short.min(1)

const split = (given: string | string[]): string[] =>
  typeof given === 'string' ? (given === '' ? [] : given.split('.')) : given
/** An array, or one string with dots between the labels. */
const labels = z
  .union([z.string(), z.array(z.string())])
  .transform(split)
  .pipe(z.array(label).max(MAX_LABELS))
const namespace = labels.refine((all) => all.length > 0, { error: 'must have at least 1 item' })

const queryLabels = z
  .union([z.string(), z.array(z.string())])
  .transform((given, context): string[] => {
    if (typeof given !== 'string' || !given.startsWith('[')) return split(given)
    try {
      return z.array(z.string()).parse(JSON.parse(given))
    } catch {
      context.addIssue({ code: 'custom', message: 'must be labels with dots between them, or a JSON array of strings' })
      return []
    }
  })
  .pipe(z.array(label).min(1).max(MAX_LABELS))

const address = { namespace, key }
const fits = (given: { namespace: string[]; key: string }) =>
  given.namespace.reduce((sum, part) => sum + bytes(part), bytes(given.key)) <= MAX_ADDRESS
const tooLong = { path: ['namespace'], error: `and key must be at most ${MAX_ADDRESS} bytes long together` }

const OPERATORS = ['$eq', '$ne', '$gt', '$gte', '$lt', '$lte']
const filter = c.object.superRefine((fields, context) => {
  for (const [field, wanted] of Object.entries(fields)) {
    if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted)) continue
    const unknown = Object.keys(wanted).find((name) => name.startsWith('$') && !OPERATORS.includes(name))
    if (unknown === undefined) continue
    const message = `is no operator: use one of ${OPERATORS.join(', ')}`
    context.addIssue({ code: 'custom', path: [field, unknown], message })
  }
})

export const item = z
  .object({
    namespace: z.array(z.string()),
    key: z.string(),
    value: c.object,
    created_at: c.time,
    updated_at: c.time,
  })
  .meta({ id: 'Item' })
export type Item = z.output<typeof item>
export const foundItem = item.extend({ score: z.number().nullable().optional() }).meta({ id: 'FoundItem' })
export type FoundItem = z.output<typeof foundItem>

export const itemPut = z
  .object({
    ...address,
    value: c.object,
    index: c.maybe(
      z.union([z.literal(false), z.array(z.string()).max(100)], { error: 'must be false, or a list of fields' }),
    ),
    ttl: z.number().positive().max(100_000_000).nullable().optional(),
  })
  .refine(fits, tooLong)
  .meta({ id: 'ItemPut' })
export type ItemPut = z.output<typeof itemPut>

export const itemSearch = z
  .object({
    namespace_prefix: c.or(labels, []),
    filter: c.maybe(filter),
    limit: c.limit(10),
    offset: c.offset,
    query: c.maybe(z.string().max(100_000)),
    refresh_ttl: c.maybe(z.boolean()),
  })
  .meta({ id: 'ItemSearch' })
export type ItemSearch = z.output<typeof itemSearch>

/** `*` in `prefix` and `suffix` stands for any one label. */
export const namespaceSearch = z.object({
  prefix: c.maybe(labels),
  suffix: c.maybe(labels),
  max_depth: c.maybe(z.int().min(1).max(1000)),
  limit: c.limit(100),
  offset: c.offset,
})
export type NamespaceSearch = z.output<typeof namespaceSearch>

export const putItem = endpoint({
  method: 'PUT',
  path: '/store/items',
  tag: 'Store',
  summary: 'Store an item',
  description:
    '`ttl` is in minutes, null for ever; left out, it is as configured. `index` is false, or the fields to embed in place of ' +
    'the configured ones.',
  permission: 'store:put',
  body: itemPut,
  reply: 'none',
})

export const deleteItem = endpoint({
  method: 'DELETE',
  path: '/store/items',
  tag: 'Store',
  summary: 'Delete an item',
  permission: 'store:delete',
  body: z.object(address),
  reply: 'none',
})

export const getItem = endpoint({
  method: 'GET',
  path: '/store/items',
  tag: 'Store',
  summary: 'Get an item',
  description: 'Gives null where there is none.',
  permission: 'store:get',
  query: z.object({
    namespace: queryLabels,
    key,
    refresh_ttl: c.flag(undefined),
  }),
  reply: item.nullable(),
})

export const searchItems = endpoint({
  method: 'POST',
  path: '/store/items/search',
  tag: 'Store',
  summary: 'Search items under a namespace, the latest changed first',
  description:
    'With `query`, what is most like it comes first, with its `score`: 1 for the same direction, 0 for nothing in common. That ' +
    'needs a semantic index, and finds items that have one.',
  permission: 'store:search',
  body: itemSearch,
  bodyOptional: true,
  reply: z.object({ items: z.array(foundItem) }),
})

export const listNamespaces = endpoint({
  method: 'POST',
  path: '/store/namespaces',
  tag: 'Store',
  summary: 'List namespaces',
  permission: 'store:list_namespaces',
  body: namespaceSearch,
  bodyOptional: true,
  reply: z.object({ namespaces: z.array(z.array(z.string())) }),
})
