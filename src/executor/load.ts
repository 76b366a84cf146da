// Loads graphs. In charge of importing a graph's file, finding the graph in what it exports, and saying in one sentence
// what is wrong with it; a graph that fails must never keep the others from loading.

import { ApiError } from '../errors.ts'
import { type Codec, createCodec } from './codec.ts'
import { explain, exportOf, Refusal } from './exported.ts'
import { detach, type Graph, type RunnableConfig, unwrapGraph } from './graph.ts'
import type { LangChain, LoadLangChain } from './langchain.ts'
import type { GraphSource, GraphStatus } from './protocol.ts'

/** What a graph is made for: a factory may build it differently, and leaner, for each. */
export type AccessContext = 'threads.create_run' | 'assistants.read' | 'threads.read' | 'threads.update'

/** What a factory gets as its second argument. */
export interface ServerRuntime {
  accessContext: AccessContext
  user: unknown
  store: unknown
}

/** A graph that has loaded. */
export interface LoadedGraph {
  source: Omit<GraphSource, 'value'>
  langchain: LangChain
  codec: Codec
  /** The compiled graph without checkpointer and store; calls the factory where there is one. */
  open(config: RunnableConfig, runtime: ServerRuntime): Promise<Graph>
}

/** The graphs of one loading, good and bad. */
export interface Graphs {
  readonly statuses: GraphStatus[]
  /** Any graph that has loaded. */
  first(): LoadedGraph | undefined
  /** Throws `ApiError` graph_not_found or graph_load_failed. */
  get(graphId: string): LoadedGraph
}

export interface LoadOptions {
  projectDir: string | null
  /** Graphs given as values, by graph id. */
  values: ReadonlyMap<string, unknown>
  loadLangChain: LoadLangChain
  /** Imports a graph's file. */
  importFile(path: string): Promise<Record<string, unknown>>
}

/** Loads every graph; never rejects for a graph's sake. */
export async function loadGraphs(sources: Omit<GraphSource, 'value'>[], options: LoadOptions): Promise<Graphs> {
  const loaded = new Map<string, LoadedGraph>()
  const failures = new Map<string, string>()
  const codecs = new Map<LangChain, Codec>()
  for (const source of sources) {
    try {
      loaded.set(source.graph_id, await loadGraph(source, options, codecs))
    } catch (error) {
      failures.set(source.graph_id, explain(error, `Graph "${source.graph_id}"`, source.path, options.projectDir))
    }
  }
  const statuses = sources.map(({ graph_id, description }) => {
    const error = failures.get(graph_id)
    return { graph_id, description: description ?? null, ...(error === undefined ? {} : { error }) }
  })
  return {
    statuses,
    first: () => loaded.values().next().value,
    get: (graphId) => {
      const graph = loaded.get(graphId)
      if (graph) return graph
      const failure = failures.get(graphId)
      if (failure !== undefined) throw new ApiError('graph_load_failed', failure)
      throw new ApiError('graph_not_found', `There is no graph "${graphId}".`)
    },
  }
}

async function loadGraph(
  source: Omit<GraphSource, 'value'>,
  options: LoadOptions,
  codecs: Map<LangChain, Codec>,
): Promise<LoadedGraph> {
  const value = await exported(source, options)
  const langchain = await options.loadLangChain(source.path)
  const codec = codecs.get(langchain) ?? createCodec(langchain)
  codecs.set(langchain, codec)
  return { source, langchain, codec, open: opener(value, source) }
}

async function exported(source: Omit<GraphSource, 'value'>, options: LoadOptions): Promise<unknown> {
  if (options.values.has(source.graph_id)) return await options.values.get(source.graph_id)
  if (source.path === undefined) throw new Refusal('has neither a path nor a value')
  return exportOf(await options.importFile(source.path), source.export ?? 'default')
}

function opener(value: unknown, source: Omit<GraphSource, 'value'>): LoadedGraph['open'] {
  const graph = unwrapGraph(value)
  if (graph) {
    const detached = detach(graph)
    return () => Promise.resolve(detached)
  }
  if (typeof value !== 'function')
    throw new Refusal(`exports "${source.export ?? 'default'}", which is neither a graph nor a function that makes one`)
  return async (config, runtime) => {
    const made: unknown = await value(config, runtime)
    const graph = unwrapGraph(made)
    if (!graph)
      throw new ApiError('graph_load_failed', `The function of graph "${source.graph_id}" did not return a graph.`)
    return detach(graph)
  }
}
