// The key `store` of langgraph.json, read: where the embedding function is, which fields, which times. In charge of refusing
// what cannot work before anything starts.

import { resolve } from 'node:path'
import { ConfigError } from '../errors.ts'
import type { EmbedSource } from '../executor/protocol.ts'
import type { StoreIndex, StoreTtl } from './store.ts'
import { readPath } from './texts.ts'

/** What `store` may say, as in langgraph.json. */
export interface StoreSettings {
  index?: {
    /** How many numbers a vector has. */
    dims: number
    /** `provider:model`, `./file.ts:function`, or (where graphs run in this process) the function or LangChain's embeddings. */
    embed: string | object
    /** Paths of what is embedded; `["$"]`, the whole value, by default. */
    fields?: readonly string[] | undefined
  }
  ttl?: {
    refresh_on_read?: boolean | undefined
    /** Minutes. */
    default_ttl?: number | undefined
    sweep_interval_minutes?: number | undefined
  }
}

/** The settings of the store; relative paths begin at `projectDir`. Throws `ConfigError`. */
export function readStoreSettings(
  { index, ttl }: StoreSettings,
  projectDir: string,
): { index?: StoreIndex; ttl: StoreTtl } {
  const { refresh_on_read = true, default_ttl, sweep_interval_minutes } = ttl ?? {}
  return {
    ...(index && { index: readIndex(index, projectDir) }),
    ttl: {
      refreshOnRead: refresh_on_read,
      ...(default_ttl !== undefined && { defaultMinutes: default_ttl }),
      ...(sweep_interval_minutes !== undefined && { sweepMinutes: sweep_interval_minutes }),
    },
  }
}

/** The most numbers that a vector may have in Postgres. */
const MAX_DIMS = 16_000

function readIndex({ dims, embed, fields = ['$'] }: NonNullable<StoreSettings['index']>, dir: string): StoreIndex {
  if (!Number.isInteger(dims) || dims < 1 || dims > MAX_DIMS)
    throw new ConfigError(`store.index.dims must be a whole number from 1 to ${MAX_DIMS}.`)
  const wrong = fields.find((field) => readPath(field) === undefined)
  if (wrong !== undefined || fields.length === 0) {
    const what = wrong === undefined ? 'names no field' : `names ${JSON.stringify(wrong)}, which is no path`
    throw new ConfigError(`store.index.fields ${what}: write fields like "title", "chapters[*].text" or "$".`)
  }
  return { dims, embed: typeof embed === 'string' ? readSource(embed, dir) : { name: 'given', value: embed }, fields }
}

const SCRIPT = /\.([mc]?[tj]s|[tj]sx)$/

function readSource(name: string, dir: string): EmbedSource {
  const colon = name.lastIndexOf(':')
  const path = colon < 0 || /[\\/]/.test(name.slice(colon)) ? name : name.slice(0, colon)
  if (SCRIPT.test(path)) {
    return { name, path: resolve(dir, path), export: path === name ? 'default' : name.slice(colon + 1) }
  }
  if (/^[a-z][\w-]*:[^\s]+$/i.test(name) && !/[\\/]/.test(name.slice(0, name.indexOf(':')))) return { name }
  throw new ConfigError(
    `store.index.embed is ${JSON.stringify(name)}: it must be "provider:model", or "./file.ts:function" (.ts .mts .cts .tsx .js .mjs .cjs .jsx).`,
  )
}
