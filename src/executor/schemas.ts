// The JSON schemas of a graph. In charge of where they come from: the graph's runtime definitions, else the TypeScript types
// of its file (in a worker, cached), else its channels. A graph whose types cannot be read still has an answer; must never
// fail a request or block the event loop.

import type { GraphSchemas, GraphSource } from './protocol.ts'
import { channelSchemas, type KnownSchemas, runtimeSchemas } from './schemas-runtime.ts'
import { createTypes, type TypesOptions } from './types.ts'

export type SchemaSet = Omit<GraphSchemas, 'graph_id'>

export interface SchemasOptions extends TypesOptions {
  /** Told once per reason why types could not be read. */
  warn?: (reason: string) => void
}

export interface Schemas {
  /** The schemas of a loaded graph; `source` says which file its types are in. A part that is not known is null. */
  of(graph: unknown, source: GraphSource): Promise<SchemaSet>
  /** The schemas of the graphs inside it, by namespace ("parent|child"): all levels with `recurse`; only that of
   *  `namespace` where given. What a subgraph does not define at run time comes from its channels. */
  subgraphsOf(graph: unknown, namespace: string | undefined, recurse: boolean): Promise<Record<string, SchemaSet>>
  close(): Promise<void>
}

/** Makes the service; nothing is started before the first graph whose types must be read. */
export function createSchemas(options: SchemasOptions = {}): Schemas {
  const types = createTypes(options)
  const told = new Set<string>()

  async function typed({ graph_id, path, export: name }: GraphSource): Promise<KnownSchemas> {
    if (path === undefined || !/\.[cm]?tsx?$/.test(path)) return {}
    const { schemas = {}, error } = await types.of(path, name ?? 'default')
    const reason = error ?? (schemas.State ? undefined : `the type of "${name ?? 'default'}" is not that of a graph`)
    const text = `The types of graph "${graph_id}" (${path}) give no schemas: ${reason}.`
    if (reason !== undefined && !told.has(text)) {
      told.add(text)
      options.warn?.(text)
    }
    return schemas
  }

  return {
    async of(graph, source) {
      const runtime = runtimeSchemas(graph)
      const complete = runtime.State && runtime.Input && runtime.Output
      return setOf({ ...channelSchemas(graph), ...(complete ? {} : await typed(source)), ...runtime })
    },
    async subgraphsOf(graph, namespace, recurse) {
      const found: Record<string, SchemaSet> = {}
      for await (const [name, subgraph] of subgraphs(graph, namespace, recurse))
        found[name] = setOf({ ...channelSchemas(subgraph), ...runtimeSchemas(subgraph) })
      return found
    },
    close: () => types.close(),
  }
}

// LangGraph has one definition for what is configurable and what is context; both names are asked for.
const setOf = ({ State, Input, Output, Context }: KnownSchemas): SchemaSet => ({
  input_schema: Input ?? null,
  output_schema: Output ?? null,
  state_schema: State ?? null,
  config_schema: Context ?? null,
  context_schema: Context ?? null,
})

interface HasSubgraphs {
  getSubgraphsAsync?(namespace?: string, recurse?: boolean): AsyncIterable<[string, unknown]>
}

async function* subgraphs(
  graph: unknown,
  namespace: string | undefined,
  recurse: boolean,
): AsyncIterable<[string, unknown]> {
  const holder = graph as HasSubgraphs
  // LangGraph looks below the first level only when told to recurse, also for a namespace that names what it wants.
  if (holder.getSubgraphsAsync) yield* holder.getSubgraphsAsync(namespace, recurse || namespace !== undefined)
}
