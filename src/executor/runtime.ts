// What an executor can do: load graphs, run jobs, answer calls. In charge of nothing itself; it puts the parts together for
// both kinds of executor.

import { ApiError } from '../errors.ts'
import type { Storage } from './executor.ts'
import type { Runtime } from './guest.ts'
import { createLangChainLoader } from './langchain.ts'
import { type Graphs, type LoadedGraph, loadGraphs } from './load.ts'
import type { HostCalls } from './protocol.ts'
import { execute } from './run.ts'
import { getHistory, getState, updateState } from './state.ts'

export interface RuntimeOptions {
  /** Graphs given as values, by graph id. */
  values?: ReadonlyMap<string, unknown>
  importFile(path: string): Promise<Record<string, unknown>>
}

type Calls = {
  [M in keyof HostCalls]?: (
    loaded: LoadedGraph,
    params: HostCalls[M]['params'],
    storage: Storage,
  ) => Promise<HostCalls[M]['value']>
}

const CALLS: Calls = {
  'state.get': getState,
  'state.history': getHistory,
  'state.update': updateState,
}

/** Makes a runtime without graphs; `load` brings them. */
export function createRuntime(options: RuntimeOptions): Runtime {
  let graphs: Graphs | undefined
  const find = (graphId: string) => {
    if (!graphs) throw new ApiError('executor_unavailable')
    return graphs.get(graphId)
  }
  const loadLangChain = createLangChainLoader()
  return {
    load: async (sources, projectDir) => {
      const { values = new Map(), importFile } = options
      graphs = await loadGraphs(sources, { projectDir, values, loadLangChain, importFile })
      return graphs.statuses
    },
    execute: (job, port) => execute(() => find(job.graph_id), job, port),
    call: async (method, params, storage) => {
      const answer = Object.hasOwn(CALLS, method) ? CALLS[method] : undefined
      if (!answer) throw new ApiError('not_supported', `This executor does not know the call "${String(method)}".`)
      return answer(find(params.graph_id), params, storage)
    },
  }
}
