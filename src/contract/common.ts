// Schemas that several nouns share: ids, free JSON, pages, flags and lists in queries, config, checkpoints. In charge of
// the leniences that clients need (null for absent, several spellings of a list); must not know any endpoint.

import { z } from 'zod'

/** A field that may be absent or null; both come out as `undefined`. */
export const maybe = <S extends z.ZodType>(schema: S) => schema.nullish().transform((value) => value ?? undefined)

/** A field that may be absent or null; both come out as the default. */
export const or = <S extends z.ZodType>(schema: S, fallback: z.output<S>) =>
  schema
    .nullish()
    .transform((value): z.output<S> => value ?? fallback)
    .meta({ default: fallback })

/** Any UUID by its shape (not by its version), in lower case. */
export const id = z.guid().toLowerCase()

/** The id of an assistant, or of a graph (then its default assistant is meant). */
export const assistantId = z.string().min(1).max(512).meta({ description: 'An assistant id, or a graph id.' })

/** Free JSON object. */
export const object = z.record(z.string(), z.unknown())
export type JsonObject = Record<string, unknown>

/** A time as ISO 8601 text in UTC. */
export const time = z.string().meta({ format: 'date-time' })

/** Page size in a body. */
export const limit = (fallback: number) => or(z.int().min(1).max(1000), fallback)
/** Page start in a body. */
export const offset = or(z.int().min(0), 0)

// ------------------------------------------------------------------------------------------------ queries

// what a query parameter is called in OpenAPI, where everything arrives as a string
const shown = (schema: JsonObject) => ({ shown: schema })

const queryInt = (min: number, max: number) =>
  z
    .string()
    .regex(/^-?\d{1,15}$/, { error: 'must be a whole number' })
    .transform(Number)
    .pipe(z.int().min(min).max(max))

/** Page size in a query. */
export const queryLimit = (fallback: number) =>
  or(queryInt(1, 1000), fallback).meta(shown({ type: 'integer', minimum: 1, maximum: 1000, default: fallback }))
/** Page start in a query. */
export const queryOffset = or(queryInt(0, Number.MAX_SAFE_INTEGER), 0).meta(
  shown({ type: 'integer', minimum: 0, default: 0 }),
)
/** A number in a query that must be at least `min`. */
export const queryNumber = (min: number) =>
  maybe(queryInt(min, 2_147_483_647)).meta(shown({ type: 'integer', minimum: min }))

const flags: Readonly<Record<string, boolean>> = { '1': true, true: true, '0': false, false: false }

/** A boolean in a query: 1, 0, true or false in any case. */
export const flag = <F extends boolean | undefined>(fallback: F) =>
  z
    .string()
    .optional()
    .transform((text, context): boolean | F => {
      if (text === undefined) return fallback
      const value = flags[text.toLowerCase()]
      if (value === undefined) context.addIssue({ code: 'custom', message: 'must be one of: true, false, 1, 0' })
      return value ?? fallback
    })
    .meta(shown({ type: 'boolean', ...(fallback !== undefined && { default: fallback }) }))

/** A list in a query: repeated keys, one JSON array, and (where items never hold a comma) one comma list. */
export const list = <S extends z.ZodType>(item: S, options: { comma?: boolean } = {}) =>
  z
    .union([z.string(), z.array(z.string())])
    .optional()
    // some clients send a list that was not given as an empty text
    .transform((given) =>
      given === undefined || (given === '' && options.comma) ? undefined : items(given, options.comma ?? false),
    )
    .pipe(z.array(item).optional())
    .meta({ listOf: item })

function items(given: string | string[], comma: boolean): unknown[] {
  if (Array.isArray(given)) return given
  if (given.startsWith('[')) {
    try {
      const parsed: unknown = JSON.parse(given)
      if (Array.isArray(parsed)) return parsed
    } catch {
      // not JSON, so the text itself is the one item
    }
  }
  return comma ? given.split(',').map((piece) => piece.trim()) : [given]
}

// ------------------------------------------------------------------------------------------------ config

const REFUSED = /^(__|langgraph_auth)/
const OWNED = new Set(['thread_id', 'run_id', 'checkpoint_ns', 'checkpoint_map'])
const isOwned = (key: string) => OWNED.has(key) || key.startsWith('langgraph_')

/** What runs and graphs are configured with; the server owns some keys of `configurable` and sets them itself. */
export interface Config {
  tags?: string[]
  recursion_limit?: number
  /** For runs that do not say it themselves. */
  durability?: 'sync' | 'async' | 'exit'
  configurable?: JsonObject
  [key: string]: unknown
}

const configInput = z.looseObject({
  tags: maybe(z.array(z.string())),
  recursion_limit: maybe(z.int().min(1)),
  durability: maybe(z.enum(['sync', 'async', 'exit'])),
  configurable: maybe(
    object.superRefine((configurable, context) => {
      const key = Object.keys(configurable).find((name) => REFUSED.test(name))
      if (key !== undefined) {
        context.addIssue({ code: 'custom', path: [key], message: 'is a name that the server keeps for itself' })
      }
    }),
  ),
})

const owned = (given: z.output<typeof configInput>, keep: (key: string) => boolean): Config => {
  const config: Config = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  if (given.configurable) {
    const kept = Object.entries(given.configurable).filter(([key]) => !isOwned(key) && keep(key))
    config.configurable = Object.fromEntries(kept)
  }
  return config
}

/** A stored config: server-owned keys of `configurable` are dropped, a checkpoint id too. */
export const config = configInput.transform((given) => owned(given, (key) => key !== 'checkpoint_id'))

/** A run's config: as `config`, but `configurable.checkpoint_id` stays, since it says where to fork from. */
export const runConfig = configInput.transform((given) => owned(given, () => true))

/** A config in a reply. */
export const configReply = z.looseObject({
  tags: z.array(z.string()).optional(),
  recursion_limit: z.number().optional(),
  configurable: object.optional(),
})

// ------------------------------------------------------------------------------------------------ checkpoints

/** Names a checkpoint, or (without an id) the latest one of a namespace. */
export const checkpoint = z
  .object({
    checkpoint_id: maybe(id),
    checkpoint_ns: maybe(z.string().max(8192)),
    checkpoint_map: maybe(z.record(z.string(), z.string().nullable())),
  })
  .transform(({ checkpoint_id, checkpoint_ns, checkpoint_map }): CheckpointRef => {
    const map = Object.entries(checkpoint_map ?? {}).filter((entry): entry is [string, string] => entry[1] !== null)
    return {
      ...(checkpoint_id !== undefined && { checkpoint_id }),
      ...(checkpoint_ns !== undefined && { checkpoint_ns }),
      ...(map.length > 0 && { checkpoint_map: Object.fromEntries(map) }),
    }
  })

export interface CheckpointRef {
  checkpoint_id?: string
  checkpoint_ns?: string
  checkpoint_map?: Record<string, string>
}

/** `checkpoint` and the shorter `checkpoint_id` as one; undefined where neither names anything. */
export function checkpointOf(given?: CheckpointRef, checkpoint_id?: string): CheckpointRef | undefined {
  const ref = checkpoint_id === undefined ? given : { ...given, checkpoint_id: given?.checkpoint_id ?? checkpoint_id }
  return ref && Object.keys(ref).length > 0 ? ref : undefined
}

/** A checkpoint in a reply. */
export const checkpointReply = z.object({
  thread_id: z.string(),
  checkpoint_ns: z.string(),
  checkpoint_id: z.string().nullable(),
  checkpoint_map: z.record(z.string(), z.unknown()).nullable().optional(),
})

// ------------------------------------------------------------------------------------------------ commands

const send = z.object({ node: z.string().min(1), input: z.unknown().optional() })
const goto = z.union([z.string(), send, z.array(z.union([z.string(), send]))])

/** A command to a graph: change its state, answer its interrupts, say which node comes next. */
export interface Command {
  update?: JsonObject | [string, unknown][]
  resume?: unknown
  goto?: z.output<typeof goto>
}

/** A command. One that says nothing is refused, since a misspelt `resume` would otherwise run the graph anew. */
export const command = z
  .object({
    update: maybe(z.union([object, z.array(z.tuple([z.string(), z.unknown()]))])),
    resume: z.unknown().optional(),
    goto: maybe(goto),
  })
  .transform((given, context): Command => {
    const goes = given.goto !== undefined && !(Array.isArray(given.goto) && given.goto.length === 0)
    const says = given.update !== undefined || goes
    if (!says && given.resume === undefined) {
      context.addIssue({ code: 'custom', message: 'needs one of: update, resume, goto' })
    }
    return {
      ...(given.update !== undefined && { update: given.update }),
      ...(goes && { goto: given.goto }),
      // some clients send every field, null where unset: beside something else a null is no answer
      ...(given.resume !== undefined && !(says && given.resume === null) && { resume: given.resume }),
    }
  })

// ------------------------------------------------------------------------------------------------ words

export const sortOrder = or(z.enum(['asc', 'desc']), 'desc')

/** A field that this server knows but does not offer: null, false and empty values pass, anything else is refused. */
export const unsupported = (why: string) =>
  z
    .unknown()
    .superRefine((value, context) => {
      const unset = value === undefined || value === null || value === false || value === ''
      if (unset || (Array.isArray(value) && value.length === 0)) return
      context.addIssue({ code: 'custom', message: why, params: { code: 'not_supported' } })
    })
    .transform(() => undefined)
    .optional()

/** Reply headers of searches. */
export const pageHeaders = {
  'X-Pagination-Total': 'How many there are in all.',
  'X-Pagination-Next': 'The offset of the next page; absent on the last one.',
}
