// Which graphs there are and which assistant an id means. In charge of names only: it asks the executor what it loaded
// and never runs or reads a graph itself.

import { v5, validate } from 'uuid'
import * as assistants from '../db/assistants.ts'
import type { Db } from '../db/db.ts'
import { ApiError } from '../errors.ts'
import type { Executor } from '../executor/executor.ts'
import type { GraphStatus } from '../executor/protocol.ts'

/** What is known of the graphs that this server serves. */
export interface Registry {
  /** Every graph of the configuration, with its error where it did not load. */
  graphs(): readonly GraphStatus[]
  /** Throws `graph_not_found` when no graph has this id. */
  graph(graphId: string): GraphStatus
  /** The assistant a request names: a graph id means the graph's own assistant, a uuid itself. Whether the assistant
   *  exists is for the database to say. Throws `assistant_not_found` for anything else. */
  resolve(idOrGraphId: string): string
}

// Clients know these ids, so it is this namespace and not one of RFC 9562's (whose URL one differs in a digit).
const NAMESPACE = '6ba7b821-9dad-11d1-80b4-00c04fd430c8'

/** The id of the assistant that every graph has from the start. */
export const defaultAssistantId = (graphId: string): string => v5(graphId, NAMESPACE)

/** Creates the registry over an executor; what it says follows the executor's reloads. */
export function createRegistry(deps: { executor: Pick<Executor, 'graphs'> }): Registry {
  const { executor } = deps
  // The hash takes as long as anything else of a short request that asks for none of the database.
  const ownIds = new Map<string, string>()
  const ownId = (graphId: string): string => {
    const id = ownIds.get(graphId) ?? defaultAssistantId(graphId)
    ownIds.set(graphId, id)
    return id
  }
  const find = (graphId: string) => executor.graphs().find((graph) => graph.graph_id === graphId)
  return {
    graphs: () => executor.graphs(),
    graph(graphId) {
      const graph = find(graphId)
      if (graph) return graph
      const known = executor.graphs().map((each) => `"${each.graph_id}"`)
      throw new ApiError('graph_not_found', `There is no graph "${graphId}". The graphs here: ${known.join(', ')}.`)
    },
    resolve(idOrGraphId) {
      if (find(idOrGraphId)) return ownId(idOrGraphId)
      if (validate(idOrGraphId)) return idOrGraphId.toLowerCase()
      throw new ApiError('assistant_not_found', `There is no assistant or graph "${idOrGraphId}".`)
    },
  }
}

/** Makes sure that every graph has its own assistant. `config` is the one new assistants start with. Any number of
 *  processes may do this at once. */
export async function ensureAssistants(
  db: Db,
  graphs: readonly GraphStatus[],
  config: Record<string, unknown> = {},
): Promise<void> {
  const rows = graphs.map(({ graph_id, description }) => ({
    assistant_id: defaultAssistantId(graph_id),
    graph_id,
    description,
  }))
  await assistants.ensureSystem(db, rows, config)
}
