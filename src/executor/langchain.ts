// The @langchain packages a graph uses. In charge of finding the very copies that the graph's own project resolves, so that
// `instanceof` in user code holds for what the executor makes; falls back to Heddle's own. Never loads them eagerly.

import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as Callbacks from '@langchain/core/callbacks/base'
import type * as Documents from '@langchain/core/documents'
import type * as Messages from '@langchain/core/messages'
import type * as Outputs from '@langchain/core/outputs'
import type * as PromptValues from '@langchain/core/prompt_values'
import type * as Singletons from '@langchain/core/singletons'
import type * as LangGraph from '@langchain/langgraph'
import type * as Checkpoint from '@langchain/langgraph-checkpoint'
import { resolve } from 'import-meta-resolve'
import { lightenUntraced } from './untraced.ts'

/** The modules whose classes cross the executor's border. One value per copy of the packages. */
export interface LangChain {
  messages: typeof Messages
  documents: typeof Documents
  outputs: typeof Outputs
  promptValues: typeof PromptValues
  callbacks: typeof Callbacks
  langgraph: typeof LangGraph
  checkpoint: typeof Checkpoint
  /** The version of @langchain/langgraph. */
  version: string
  /** Another module of the same copies; rejects where the project has none. */
  module<T>(specifier: string): Promise<T>
}

/** Loads the packages as the module at `path` would get them (ESM or CommonJS copies); Heddle's own where it has none. */
export type LoadLangChain = (path?: string) => Promise<LangChain>

/** A loader that gives the same `LangChain` for every graph that resolves the same copies. */
export function createLangChainLoader(): LoadLangChain {
  const loaded = new Map<string, Promise<LangChain>>()
  return (path) => {
    const origin = path && hasLangGraph(path) ? path : undefined
    const find = origin === undefined ? ownFinder() : finderOf(origin)
    const key = find('@langchain/langgraph')
    const known = loaded.get(key)
    if (known) return known
    const fresh = load(find)
    loaded.set(key, fresh)
    return fresh
  }
}

type Find = (specifier: string) => string

async function load(find: Find): Promise<LangChain> {
  const get = async <T>(specifier: string): Promise<T> => unwrap<T>(await import(find(specifier)))
  const [langgraph, checkpoint, messages, documents, outputs, promptValues, callbacks] = await Promise.all([
    get<typeof LangGraph>('@langchain/langgraph'),
    get<typeof Checkpoint>('@langchain/langgraph-checkpoint'),
    get<typeof Messages>('@langchain/core/messages'),
    get<typeof Documents>('@langchain/core/documents'),
    get<typeof Outputs>('@langchain/core/outputs'),
    get<typeof PromptValues>('@langchain/core/prompt_values'),
    get<typeof Callbacks>('@langchain/core/callbacks/base'),
  ])
  const { AsyncLocalStorageProviderSingleton } = await get<typeof Singletons>('@langchain/core/singletons')
  lightenUntraced(AsyncLocalStorageProviderSingleton)
  const version = versionAt(find('@langchain/langgraph'))
  return { messages, documents, outputs, promptValues, callbacks, langgraph, checkpoint, version, module: get }
}

function versionAt(entry: string): string {
  for (let at = new URL('.', entry); at.pathname !== '/'; at = new URL('..', at)) {
    const manifest = new URL('package.json', at)
    if (!existsSync(manifest)) continue
    const { name, version } = JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string; version?: string }
    if (name === '@langchain/langgraph' && version) return version
  }
  return 'unknown'
}

// A CommonJS module imported by URL has its exports both as names (where Node could tell them) and as `default`.
const unwrap = <T>(module: Record<string, unknown>): T =>
  (module.__esModule === true && typeof module.default === 'object' && module.default !== null
    ? module.default
    : module) as T

const ownFinder = (): Find => (specifier) => import.meta.resolve(specifier)

function finderOf(path: string): Find {
  const base = pathToFileURL(path).href
  const find: Find = isCommonJs(path)
    ? (specifier) => pathToFileURL(createRequire(path).resolve(specifier)).href
    : (specifier) => resolve(specifier, base)
  return (specifier) => {
    try {
      return find(specifier)
    } catch {
      // Strict package managers hide what is only a dependency of @langchain/langgraph: ask from there.
      const langgraph = find('@langchain/langgraph')
      return isCommonJs(path)
        ? pathToFileURL(createRequire(langgraph).resolve(specifier)).href
        : resolve(specifier, langgraph)
    }
  }
}

function hasLangGraph(path: string): boolean {
  for (let at = dirname(path); ; at = dirname(at)) {
    if (existsSync(join(at, 'node_modules', '@langchain', 'langgraph', 'package.json'))) return true
    if (dirname(at) === at) return false
  }
}

/** Whether the file is loaded as CommonJS: by its extension, or else by the nearest package.json. */
export function isCommonJs(path: string): boolean {
  if (/\.c[jt]s$/.test(path)) return true
  if (!/\.js$/.test(path)) return false
  for (let at = dirname(path); ; at = dirname(at)) {
    const manifest = join(at, 'package.json')
    if (existsSync(manifest)) return (JSON.parse(readFileSync(manifest, 'utf8')) as { type?: string }).type !== 'module'
    if (dirname(at) === at) return true
  }
}
