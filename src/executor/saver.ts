// The checkpointer that graphs get. In charge of what is sent of channel values and writes (growth.ts encodes them), of version
// names, and of the metadata that is stored; the server stores and reads. One instance serves one run or one call. It must send
// nothing of a checkpoint or of a task's writes before all of it is encoded, and nothing at all after a failure.

import type { BaseCheckpointSaver, CheckpointTuple } from '@langchain/langgraph-checkpoint'
import { randomBytes } from '../ids.ts'
import type { Codec } from './codec.ts'
import type { Storage } from './executor.ts'
import type { RunnableConfig } from './graph.ts'
import { createGrowth, TASKS } from './growth.ts'
import type { LangChain } from './langchain.ts'
import { storedMetadata } from './metadata.ts'
import type { Blob, CheckpointPut, StoredCheckpoint, WritesPut } from './stored.ts'
import { isLeftOut, type View } from './view.ts'

/** Where checkpoints go. Each promise resolves when the graph may go on. */
export interface CheckpointSink {
  put(put: CheckpointPut): Promise<void>
  writes(writes: WritesPut): Promise<void>
  /** Resolves when everything sent so far can be read again. */
  settled(): Promise<void>
  deleteThread?(threadId: string): Promise<void>
}

export interface SaverDeps {
  langchain: LangChain
  codec: Codec
  storage: Pick<Storage, 'checkpoint.get' | 'checkpoint.list'>
  sink: CheckpointSink
  /** Joins the metadata of every checkpoint, beneath that of the config. */
  metadata?: Record<string, unknown>
  /** The thread has no checkpoint at all: what this saver did not put need not be asked for. */
  fresh?: boolean
  /** Where nothing will be put and what is read is only shown: how the root namespace is read. */
  view?: View | undefined
  /** Told of the first value that cannot be stored. */
  onFailure?(error: Error): void
}

/** A checkpointer, and what it knows without asking the server. */
export interface Saver {
  readonly checkpointer: BaseCheckpointSaver<string>
  /** The last checkpoint put in the root namespace, with the writes that followed it. */
  latest(): CheckpointTuple | undefined
}

type Versions = Record<string, string | number>
type PendingWrite = { task_id: string; task_path: string; idx: number; channel: string; value: unknown }

// Indexes of special channels, as every LangGraph checkpointer has them.
const SPECIAL: Record<string, number> = { __error__: -1, __scheduled__: -2, __interrupt__: -3, __resume__: -4 }

/** Makes a checkpointer that is an instance of the graph project's own BaseCheckpointSaver. */
export function createSaver(deps: SaverDeps): Saver {
  const { codec, storage, sink } = deps
  // Short, because every checkpoint names many versions; of letters and digits, because text is compared by the rules of languages.
  const fork = Buffer.from(randomBytes(6)).toString('base64url').replace(/[-_]/g, '0')
  const touched = new Set<string>()
  const growth = createGrowth(codec)
  let latest: CheckpointTuple | undefined
  let latestWrites = new Map<string, Map<string, PendingWrite>>()
  let failure: Error | undefined

  // A counter keeps versions in order; the saver's own suffix keeps forks of one checkpoint apart, and how often it gave this one
  // those of loops that share a namespace.
  const given = new Map<number, number>()
  const nextVersion = (current: string | undefined): string => {
    const counter = (current === undefined ? 0 : Number.parseInt(String(current), 10)) + 1
    const times = given.get(counter) ?? 0
    given.set(counter, times + 1)
    return `${String(counter).padStart(10, '0')}.${fork}${times === 0 ? '' : times.toString(36)}`
  }

  const guarded = <T>(encode: () => T): T => {
    if (failure) throw failure
    try {
      return encode()
    } catch (error) {
      failure = error as Error
      deps.onFailure?.(failure)
      throw error
    }
  }

  /** What is sent next may build on what was sent before: nothing goes once something did not. */
  const sent = async (send: () => Promise<void>): Promise<void> => {
    try {
      await send()
    } catch (error) {
      failure ??= error as Error
      throw error
    }
  }

  const getTuple = async (config: RunnableConfig): Promise<CheckpointTuple | undefined> => {
    const { thread_id, checkpoint_ns, checkpoint_id } = addressOf(config)
    if (thread_id === undefined) return undefined
    if (touched.has(checkpoint_ns)) await sink.settled()
    else if (deps.fresh) return undefined
    const which = { thread_id, checkpoint_ns, ...(checkpoint_id === undefined ? {} : { checkpoint_id }) }
    const view = checkpoint_ns === '' ? deps.view : undefined
    const stored = await storage['checkpoint.get']({ ...which, ...(view && { leave_out: view.leaveOut }) })
    if (stored === null) return undefined
    const tuple = await read(stored, view, checkpoint_id === undefined)
    if (!deps.view) growth.saw(stored, tuple.checkpoint.channel_values)
    return tuple
  }

  const read = async (stored: StoredCheckpoint, view?: View, latest = false): Promise<CheckpointTuple> => {
    const values = view ? view.values(stored, latest) : (_: string, blob: Blob) => codec.decode(blob)
    if (values === undefined) {
      const { thread_id, checkpoint_ns, checkpoint_id } = stored
      const whole = await storage['checkpoint.get']({ thread_id, checkpoint_ns, checkpoint_id })
      if (whole === null) throw new Error(`The checkpoint ${checkpoint_id} was removed while it was read.`)
      return read(whole, view, latest)
    }
    const tuple = tupleOf(stored, values, codec)
    // Before format 4, what was sent to nodes stood with the parent's writes instead of in a channel of its own.
    if (Number(tuple.checkpoint.v) < 4 && tuple.parentConfig) {
      const sends =
        (await getTuple(tuple.parentConfig as RunnableConfig))?.pendingWrites?.filter(
          ([, channel]) => channel === TASKS,
        ) ?? []
      const versions = Object.values(tuple.checkpoint.channel_versions).map(String).sort()
      tuple.checkpoint.channel_values[TASKS] = sends.map(([, , value]) => value)
      tuple.checkpoint.channel_versions[TASKS] = versions.at(-1) ?? nextVersion(undefined)
    }
    return tuple
  }

  async function* list(config: RunnableConfig, options: ListOptions = {}): AsyncGenerator<CheckpointTuple> {
    await sink.settled()
    const { thread_id, checkpoint_id } = addressOf(config)
    if (thread_id === undefined) return
    const checkpoint_ns = config.configurable?.checkpoint_ns as string | undefined
    const before = options.before?.configurable?.checkpoint_id as string | undefined
    const view = checkpoint_ns === '' ? deps.view : undefined
    const found = await storage['checkpoint.list']({
      thread_id,
      ...(checkpoint_ns === undefined ? {} : { checkpoint_ns }),
      ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
      ...(before === undefined ? {} : { before }),
      ...(options.limit === undefined ? {} : { limit: options.limit }),
      ...(options.filter === undefined ? {} : { metadata: options.filter }),
      ...(view && { leave_out: view.leaveOut }),
    })
    for (const stored of found) yield await read(stored, view)
  }

  /** What each channel's value is made of: where it last had one, and what was written to it since, oldest first. */
  const history = async (config: RunnableConfig, channels: string[]): Promise<History | undefined> => {
    const { thread_id, checkpoint_ns, checkpoint_id } = addressOf(config)
    if (thread_id === undefined) return undefined
    if (touched.has(checkpoint_ns)) await sink.settled()
    const found = await storage['checkpoint.list']({
      thread_id,
      checkpoint_ns,
      ...(checkpoint_id === undefined ? {} : { checkpoint_id }),
      history_of: channels,
    })
    const byId = new Map(found.map((stored) => [stored.checkpoint_id, stored]))
    const target = byId.get(checkpoint_id ?? found[0]?.checkpoint_id ?? '')
    return target && historyOf(target, byId, channels, codec)
  }

  const put = async (
    config: RunnableConfig,
    checkpoint: CheckpointTuple['checkpoint'],
    metadata: Record<string, unknown>,
    newVersions: Versions,
  ): Promise<RunnableConfig> => {
    const { thread_id, checkpoint_ns, checkpoint_id: parent } = addressOf(config)
    if (thread_id === undefined) throw new Error('A checkpoint needs "thread_id" in config.configurable.')
    const { channel_values, ...rest } = checkpoint
    const values = guarded(() =>
      growth.values(
        { thread_id, checkpoint_ns },
        Object.entries(newVersions)
          .filter(([channel]) => Object.hasOwn(channel_values, channel))
          .map(([channel, version]) => [channel, String(version), channel_values[channel]]),
      ),
    )
    const stored = storedMetadata({ ...deps.metadata, ...config.metadata }, metadata)
    touched.add(checkpoint_ns)
    const next = { configurable: { thread_id, checkpoint_ns, checkpoint_id: checkpoint.id } }
    if (checkpoint_ns === '') {
      latest = { config: next, checkpoint, metadata: stored as never, ...parentOf(thread_id, checkpoint_ns, parent) }
      latestWrites = new Map([...latestWrites].filter(([id]) => id === checkpoint.id))
    }
    const put: CheckpointPut = {
      thread_id,
      checkpoint_ns,
      checkpoint_id: checkpoint.id,
      parent_checkpoint_id: parent ?? null,
      checkpoint: rest,
      metadata: stored,
      values,
    }
    await sent(() => sink.put(put))
    return next
  }

  const putWrites = async (
    config: RunnableConfig,
    writes: [string, unknown][],
    taskId: string,
    taskPath = '',
  ): Promise<void> => {
    const { thread_id, checkpoint_ns, checkpoint_id } = addressOf(config)
    if (thread_id === undefined || checkpoint_id === undefined)
      throw new Error('Writes need "thread_id" and "checkpoint_id" in config.configurable.')
    const encoded = guarded(() =>
      writes.map(([channel, value], i) =>
        growth.write({ thread_id, checkpoint_ns }, SPECIAL[channel] ?? i, channel, value),
      ),
    )
    touched.add(checkpoint_ns)
    if (checkpoint_ns === '') {
      const known = latestWrites.get(checkpoint_id) ?? new Map<string, PendingWrite>()
      latestWrites.set(checkpoint_id, known)
      writes.forEach(([channel, value], i) => {
        const idx = SPECIAL[channel] ?? i
        known.set(`${taskId} ${idx}`, { task_id: taskId, task_path: taskPath, idx, channel, value })
      })
    }
    const put: WritesPut = {
      thread_id,
      checkpoint_ns,
      checkpoint_id,
      task_id: taskId,
      task_path: taskPath,
      writes: encoded,
    }
    await sent(() => sink.writes(put))
  }

  const Base = deps.langchain.checkpoint.BaseCheckpointSaver
  class HeddleSaver extends Base<string> {
    override getTuple(config: RunnableConfig) {
      return getTuple(config)
    }
    override list(config: RunnableConfig, options?: ListOptions) {
      return list(config, options)
    }
    override async getDeltaChannelHistory(options: { config: RunnableConfig; channels: string[] }) {
      // What is not stored yet is found one by one.
      return (await history(options.config, options.channels)) ?? super.getDeltaChannelHistory(options)
    }
    override put(
      config: RunnableConfig,
      checkpoint: CheckpointTuple['checkpoint'],
      metadata: object,
      versions: Versions,
    ) {
      return put(config, checkpoint, metadata as Record<string, unknown>, versions)
    }
    override putWrites(config: RunnableConfig, writes: [string, unknown][], taskId: string, taskPath?: string) {
      return putWrites(config, writes, taskId, taskPath)
    }
    override async deleteThread(threadId: string) {
      if (!sink.deleteThread) throw new Error('A graph cannot delete its thread: use the API.')
      growth.clear()
      await sink.deleteThread(threadId)
    }
    override getNextVersion(current: string | undefined) {
      return nextVersion(current)
    }
  }
  return {
    checkpointer: new HeddleSaver(),
    latest: () => latest && { ...latest, pendingWrites: inOrder(latestWrites.get(latest.checkpoint.id)) },
  }
}

interface ListOptions {
  limit?: number
  before?: RunnableConfig
  filter?: Record<string, unknown>
}

function addressOf(config: RunnableConfig): { thread_id?: string; checkpoint_ns: string; checkpoint_id?: string } {
  const { thread_id, checkpoint_ns, checkpoint_id } = (config.configurable ?? {}) as Record<string, string | undefined>
  return {
    ...(thread_id ? { thread_id } : {}),
    checkpoint_ns: checkpoint_ns ?? '',
    ...(checkpoint_id ? { checkpoint_id } : {}),
  }
}

const parentOf = (thread_id: string, checkpoint_ns: string, checkpoint_id: string | null | undefined) =>
  checkpoint_id ? { parentConfig: { configurable: { thread_id, checkpoint_ns, checkpoint_id } } } : {}

function tupleOf(
  stored: StoredCheckpoint,
  shown: (channel: string, blob: Blob) => unknown,
  codec: Codec,
): CheckpointTuple {
  const { thread_id, checkpoint_ns, checkpoint_id } = stored
  const channel_values = Object.fromEntries(stored.values.map(({ channel, blob }) => [channel, shown(channel, blob)]))
  return {
    config: { configurable: { thread_id, checkpoint_ns, checkpoint_id } },
    checkpoint: { ...stored.checkpoint, channel_values } as CheckpointTuple['checkpoint'],
    metadata: stored.metadata as never,
    ...parentOf(thread_id, checkpoint_ns, stored.parent_checkpoint_id),
    pendingWrites: stored.writes.map(({ task_id, channel, blob }) => [
      task_id,
      channel,
      isLeftOut(blob) ? null : codec.decode(blob),
    ]),
  }
}

type History = Record<string, { writes: [string, string, unknown][]; seed?: unknown }>

function historyOf(
  target: StoredCheckpoint,
  byId: ReadonlyMap<string, StoredCheckpoint>,
  channels: readonly string[],
  codec: Codec,
): History {
  const history: History = Object.fromEntries(channels.map((channel) => [channel, { writes: [] }]))
  const wanted = new Set(channels)
  const parentOf = (stored: StoredCheckpoint) => byId.get(stored.parent_checkpoint_id ?? '')
  for (let at = parentOf(target); at !== undefined && wanted.size > 0; at = parentOf(at)) {
    for (const { task_id, channel, blob } of at.writes.toReversed())
      if (wanted.has(channel)) history[channel]?.writes.unshift([task_id, channel, codec.decode(blob)])
    for (const { channel, blob } of at.values) {
      if (wanted.delete(channel)) Object.assign(history[channel] as object, { seed: codec.decode(blob) })
    }
  }
  return history
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
const inOrder = (writes: Map<string, PendingWrite> | undefined): [string, string, unknown][] =>
  [...(writes?.values() ?? [])]
    .sort((a, b) => compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx)
    .map(({ task_id, channel, value }) => [task_id, channel, value])
