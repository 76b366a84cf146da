// Reads and updates of a thread's state, outside of runs. In charge of using the graph's own logic on stored checkpoints;
// stores nothing: an update gives what to store.

import { ApiError, messageOf } from '../errors.ts'
import type { Storage } from './executor.ts'
import { stateOf } from './final.ts'
import type { Graph, RunnableConfig } from './graph.ts'
import { commandOf } from './input.ts'
import type { AccessContext, LoadedGraph } from './load.ts'
import { createOverlay } from './overlay.ts'
import type { CheckpointRef, HostCalls } from './protocol.ts'
import { stateConfigOf } from './run-config.ts'
import { type CheckpointSink, createSaver, type Saver } from './saver.ts'
import { createStore } from './store.ts'
import { threadStateOf } from './thread-state.ts'
import { createView, type View } from './view.ts'

type Params<M extends keyof HostCalls> = HostCalls[M]['params']

/** The ThreadState at a checkpoint or the latest one; null where that checkpoint does not exist. */
export async function getState(
  loaded: LoadedGraph,
  params: Params<'state.get'>,
  storage: Storage,
): Promise<{ text: string } | null> {
  const config = stateConfigOf(params.config, params.thread_id, params.checkpoint)
  const graph = await openToShow(loaded, config, storage, params.select)
  const snapshot = await graph.getState(config, { subgraphs: params.subgraphs })
  if (params.checkpoint?.checkpoint_id && snapshot.createdAt === undefined) return null
  return { text: JSON.stringify(threadStateOf(snapshot, params.select)) }
}

/** The ThreadStates of a namespace, newest first. */
export async function getHistory(
  loaded: LoadedGraph,
  params: Params<'state.history'>,
  storage: Storage,
): Promise<{ text: string }> {
  const namespace = namespaceOf(params.checkpoint)
  const config = stateConfigOf(params.config, params.thread_id, namespace)
  const graph = await openToShow(loaded, config, storage, params.select)
  const before = params.before?.checkpoint_id
  const states: string[] = []
  for await (const snapshot of graph.getStateHistory(config, {
    limit: params.limit,
    ...(before ? { before: { configurable: { checkpoint_id: before } } } : {}),
    ...(params.metadata && Object.keys(params.metadata).length ? { filter: params.metadata } : {}),
  }))
    states.push(JSON.stringify(threadStateOf(snapshot, params.select)))
  return { text: `[${states.join(',')}]` }
}

/** Applies updates as the graph's nodes would and gives the checkpoints and writes they make. */
export async function updateState(
  loaded: LoadedGraph,
  params: Params<'state.update'>,
  storage: Storage,
): Promise<HostCalls['state.update']['value']> {
  const overlay = createOverlay(storage)
  const config = stateConfigOf(params.config, params.thread_id, params.checkpoint)
  const { storage: overlaid, sink } = overlay
  const access = 'threads.update'
  const { graph, saver } = await open(loaded, config, { storage: overlaid, sink, access, metadata: params.metadata })
  const supersteps = params.supersteps.map(({ updates }) => ({
    updates: updates.map(({ values, command, as_node }) => ({
      values: command ? commandOf(command, loaded.langchain) : values,
      ...(as_node === undefined || as_node === null ? {} : { asNode: as_node }),
    })),
  }))
  const updated = await graph.bulkUpdateState(config, supersteps).catch((error: unknown) => {
    if (error instanceof ApiError) throw error
    throw new ApiError('invalid_update', `The state cannot be updated so: ${messageOf(error)}`, { cause: error })
  })
  const root = stateConfigOf(params.config, params.thread_id, undefined)
  return {
    checkpoint: refOf(params.thread_id, updated),
    puts: overlay.puts,
    writes: overlay.writes,
    state: await stateOf(graph, root, saver),
  }
}

const READ_ONLY: CheckpointSink = {
  put: () => Promise.reject(new Error('Reading a state stores nothing.')),
  writes: () => Promise.reject(new Error('Reading a state stores nothing.')),
  settled: () => Promise.resolve(),
}

const openToShow = async (
  loaded: LoadedGraph,
  config: RunnableConfig,
  storage: Storage,
  select: readonly string[] | undefined,
): Promise<Graph> => {
  const show = (graph: Graph) => createView(graph, loaded.codec, select)
  return (await open(loaded, config, { storage, sink: READ_ONLY, access: 'threads.read', show })).graph
}

// The checkpointer is set on a copy of the graph, not lent by the config: with a lent one LangGraph does not look for the
// subgraph that a namespace names.
async function open(
  loaded: LoadedGraph,
  config: RunnableConfig,
  given: {
    storage: Storage
    sink: CheckpointSink
    access: AccessContext
    metadata?: Record<string, unknown>
    show?: (graph: Graph) => View | undefined
  },
): Promise<{ graph: Graph; saver: Saver }> {
  const { langchain, codec } = loaded
  const { storage, sink, metadata = {} } = given
  const store = createStore(langchain, storage)
  const user = config.configurable?.langgraph_auth_user
  const made = await loaded.open(config, { accessContext: given.access, user, store })
  const graph = made.withConfig({})
  const saver = createSaver({ langchain, codec, storage, sink, metadata, view: given.show?.(graph) })
  graph.checkpointer = saver.checkpointer
  graph.store = store
  return { graph, saver }
}

const namespaceOf = (checkpoint: CheckpointRef | undefined): CheckpointRef | undefined =>
  checkpoint?.checkpoint_ns ? { checkpoint_ns: checkpoint.checkpoint_ns } : undefined

function refOf(thread_id: string, config: RunnableConfig): CheckpointRef & { thread_id: string } {
  const { checkpoint_ns, checkpoint_id, checkpoint_map } = (config.configurable ?? {}) as CheckpointRef
  return {
    thread_id,
    checkpoint_ns: checkpoint_ns ?? '',
    ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
    ...(checkpoint_map === undefined ? {} : { checkpoint_map }),
  }
}
