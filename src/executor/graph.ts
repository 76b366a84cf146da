// What the executor asks of a compiled graph, whatever version of LangGraph made it. Types and recognition only; must never
// import LangGraph itself, because the copy that counts is the graph project's.

/** A state snapshot as `getState` gives it. */
export interface Snapshot {
  values: Record<string, unknown> | unknown
  next: string[]
  tasks: SnapshotTask[]
  metadata?: Record<string, unknown>
  config: RunnableConfig
  parentConfig?: RunnableConfig
  createdAt?: string
}

export interface SnapshotTask {
  id: string
  name: string
  path?: unknown
  error?: unknown
  interrupts: unknown[]
  state?: Snapshot | RunnableConfig
  result?: unknown
}

export interface RunnableConfig {
  configurable?: Record<string, unknown>
  metadata?: Record<string, unknown>
  [key: string]: unknown
}

/** A compiled graph. */
export interface Graph {
  readonly lg_is_pregel: true
  checkpointer?: unknown
  store?: unknown
  readonly config?: RunnableConfig
  readonly nodes: Record<string, unknown>
  readonly channels: Record<string, unknown>
  readonly streamChannelsAsIs: string | string[]
  withConfig(config: RunnableConfig): Graph
  stream(input: unknown, config: RunnableConfig): Promise<AsyncIterable<unknown>>
  streamEvents(input: unknown, config: RunnableConfig): AsyncIterable<Record<string, unknown>>
  getState(config: RunnableConfig, options?: { subgraphs?: boolean }): Promise<Snapshot>
  getStateHistory(config: RunnableConfig, options?: Record<string, unknown>): AsyncIterable<Snapshot>
  bulkUpdateState(
    config: RunnableConfig,
    supersteps: { updates: { values?: unknown; asNode?: string }[] }[],
  ): Promise<RunnableConfig>
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  (typeof value === 'object' || typeof value === 'function') && value !== null

/** Whether a value is a compiled graph (also one of a functional-API entrypoint). */
export const isGraph = (value: unknown): value is Graph =>
  isObject(value) &&
  typeof value.stream === 'function' &&
  typeof value.getState === 'function' &&
  (value.lg_is_pregel === true || (isObject(value.nodes) && isObject(value.channels)))

/** The compiled graph in what a module exported or a factory gave: itself, an agent's graph, or a compiled StateGraph. */
export function unwrapGraph(value: unknown): Graph | undefined {
  if (isGraph(value)) return value
  if (!isObject(value)) return undefined
  if ('graph' in value && isGraph(value.graph)) return value.graph
  if (typeof value.compile === 'function' && 'nodes' in value) return unwrapGraph(value.compile())
  return undefined
}

/** A copy that keeps its own checkpointer and store out: runs and reads bring theirs, and the exported object, which a
 *  program may use by itself, stays as it is. */
export function detach(graph: Graph): Graph {
  const copy = graph.withConfig({})
  copy.checkpointer = undefined
  copy.store = undefined
  return copy
}
