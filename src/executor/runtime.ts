// What an executor can do: load graphs, run jobs, answer calls. In charge of nothing itself; it puts the parts together for
// both kinds of executor.

import { ApiError } from '../errors.ts'
import { draw } from './draw.ts'
import { createEmbed } from './embed.ts'
import type { Storage } from './executor.ts'
import type { RunnableConfig } from './graph.ts'
import type { Runtime } from './guest.ts'
import { createLangChainLoader } from './langchain.ts'
import { type Graphs, type LoadedGraph, loadGraphs } from './load.ts'
import type { HostCalls } from './protocol.ts'
import { execute } from './run.ts'
import { createSchemas, type Schemas } from './schemas.ts'
import { getHistory, getState, updateState } from './state.ts'
import { createStore } from './store.ts'
import { checkpointSize, createThreadMemory } from './thread-memory.ts'
import { createTracing } from './tracing.ts'
import { warm } from './warm.ts'

export interface RuntimeOptions {
  /** Graphs given as values, by graph id. */
  values?: ReadonlyMap<string, unknown>
  /** What makes vectors, given as a value. */
  embed?: unknown
  importFile(path: string): Promise<Record<string, unknown>>
  /** Where this server is reached; it becomes part of traces. */
  apiUrl?: string
  /** Whether to warm up once the graphs are loaded; not where runs are traced, since these would be too. */
  warm?: boolean
  /** Told what nobody asked for but somebody should read. */
  log?(text: string): void
}

/** What is held of threads that ran, in bytes of their values: some hundred long conversations. */
const MEMORY_BYTES = 16 * 1024 * 1024

type Calls = {
  [M in keyof HostCalls]: (params: HostCalls[M]['params'], storage: Storage) => Promise<HostCalls[M]['value']>
}
type Find = (graphId: string) => LoadedGraph

const callsWith = (find: Find, schemas: Schemas, embed: Calls['embed']): Calls => ({
  embed,
  'state.get': async (params, storage) => getState(find(params.graph_id), params, storage),
  'state.history': async (params, storage) => getHistory(find(params.graph_id), params, storage),
  'state.update': async (params, storage) => updateState(find(params.graph_id), params, storage),
  'graph.draw': async ({ graph_id, xray, config }, storage) => {
    const read = await openToRead(find(graph_id), config, storage)
    return draw(read.graph, xray, read.config)
  },
  'graph.schemas': async ({ graph_id, config }, storage) => {
    const loaded = find(graph_id)
    const { graph } = await openToRead(loaded, config, storage)
    return { graph_id, ...(await schemas.of(graph, loaded.source)) }
  },
  'graph.subgraphs': async ({ graph_id, namespace, recurse, config }, storage) => {
    const { graph } = await openToRead(find(graph_id), config, storage)
    return schemas.subgraphsOf(graph, namespace, recurse)
  },
})

async function openToRead(loaded: LoadedGraph, given: unknown, storage: Storage) {
  const config = (typeof given === 'object' && given !== null ? given : {}) as RunnableConfig
  const store = createStore(loaded.langchain, storage)
  const user = config.configurable?.langgraph_auth_user
  return { config, graph: await loaded.open(config, { accessContext: 'assistants.read', user, store }) }
}

/** Makes a runtime without graphs; `load` brings them. */
export function createRuntime(options: RuntimeOptions): Runtime {
  let graphs: Graphs | undefined
  const find: Find = (graphId) => {
    if (!graphs) throw new ApiError('executor_unavailable')
    return graphs.get(graphId)
  }
  const loadLangChain = createLangChainLoader()
  const embed = createEmbed({ importFile: options.importFile, value: options.embed })
  let folder: string | null = null
  const schemas = createSchemas(options.log ? { warn: options.log } : {})
  const calls = callsWith(find, schemas, (params) => embed(params, folder))
  const memory = createThreadMemory(MEMORY_BYTES, checkpointSize)
  const tracing = createTracing((text) => options.log?.(text))
  return {
    load: async (sources, projectDir) => {
      const { values = new Map(), importFile } = options
      folder = projectDir
      graphs = await loadGraphs(sources, { projectDir, values, loadLangChain, importFile })
      const first = graphs.first()
      if (options.warm && first)
        setImmediate(() => void warm(first, (loaded, job, port) => execute(() => loaded, job, port, tracing)))
      return graphs.statuses
    },
    execute: (job, port) => execute(() => find(job.graph_id), job, port, tracing, { ...options, memory }),
    call: async (method, params, storage) => {
      const answer = Object.hasOwn(calls, method) ? calls[method] : undefined
      if (!answer) throw new ApiError('not_supported', `This executor does not know the call "${String(method)}".`)
      return answer(params, storage)
    },
    close: async () => void (await Promise.all([schemas.close(), tracing.flush()])),
  }
}
