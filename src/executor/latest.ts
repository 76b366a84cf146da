// The latest checkpoint of a thread's root namespace as it is stored, followed through a run. In charge of knowing it from what
// the run read and put, without asking; where it cannot be sure of all of it, it says nothing.

import { joinLists, spliced } from '../splices.ts'
import type { Storage } from './executor.ts'
import type { CheckpointSink } from './saver.ts'
import type { Blob, Chain, CheckpointPut, Splice, StoredCheckpoint, WritesPut } from './stored.ts'

type Reads = Pick<Storage, 'checkpoint.get' | 'checkpoint.list'>

export interface Latest {
  /** Reads of the run, to be followed. */
  storage(of: Reads): Reads
  /** What the run puts, to be followed. */
  sink(of: CheckpointSink): CheckpointSink
  /** The last checkpoint that was put, whole, with the writes on it; undefined where none was, or not all of it is known. */
  stored(): StoredCheckpoint | undefined
}

interface Value {
  type: string
  /** A list: as it is stored whole, and what was added to it. */
  parts: Uint8Array[]
  chain?: Chain
  /** Where other lists of the namespace stand in it; it has one part then. */
  splices?: Splice[]
}

/** Begins with what is known of the thread, if anything is. */
export function followLatest(known: StoredCheckpoint | undefined): Latest {
  const values = new Map<string, Value>()
  /** Checkpoints of which every value that there is, is known. */
  const whole = new Set<string | null>([null])
  /** Versions that grew from one that is not known: graph code may have read a checkpoint that nobody here saw. */
  const unknown = new Set<string>()
  const writes = new Map<string, WritesPut[]>()
  let last: CheckpointPut | undefined

  const see = (stored: StoredCheckpoint) => {
    if (stored.checkpoint_ns !== '') return
    whole.add(stored.checkpoint_id)
    for (const { channel, blob, chain } of stored.values) {
      values.set(keyOf(channel, versionsOf(stored.checkpoint)[channel]), {
        type: blob.type,
        parts: [blob.bytes],
        ...(chain && { chain }),
      })
    }
  }
  const follow = (put: CheckpointPut) => {
    if (put.checkpoint_ns !== '') return
    for (const { channel, version, blob, list, splices } of put.values) {
      const base = list?.base == null ? undefined : values.get(keyOf(channel, list.base))
      const size = blob.bytes.length
      if (list?.base != null && base?.chain === undefined) {
        unknown.add(keyOf(channel, version))
        continue
      }
      values.set(keyOf(channel, version), {
        type: blob.type,
        parts: [...(base?.parts ?? []), blob.bytes],
        ...(splices && { splices }),
        ...(list && {
          chain: base?.chain
            ? { ...base.chain, position: list.position, added_bytes: base.chain.added_bytes + size }
            : { id: version, position: 0, whole_bytes: size, added_bytes: 0 },
        }),
      })
    }
    if (whole.has(put.parent_checkpoint_id)) whole.add(put.checkpoint_id)
    // LangGraph goes on changing the checkpoint that it gave, for instance when it reads the state after the run.
    last = { ...put, checkpoint: copyOf(put.checkpoint) }
  }
  const isKnown = ({ splices = [] }: { splices?: Splice[] }) =>
    splices.every(({ channel, version }) => values.has(keyOf(channel, version)))
  // The root is part of no other namespace, so all lists that begin here are of the root.
  const completed = ({ type, bytes }: Blob, splices: readonly Splice[] = []): Blob => {
    const listOf = ({ channel, version }: Splice) => joinLists(values.get(keyOf(channel, version))?.parts ?? [])
    return { type, bytes: spliced(bytes, splices, listOf) }
  }
  if (known) see(known)

  return {
    storage: (of) => ({
      ...of,
      async 'checkpoint.get'(which) {
        const isKnown = known !== undefined && last === undefined && which.checkpoint_ns === ''
        if (isKnown && (which.checkpoint_id ?? known.checkpoint_id) === known.checkpoint_id && writes.size === 0)
          return { ...known, checkpoint: copyOf(known.checkpoint) }
        const stored = await of['checkpoint.get'](which)
        if (stored) see(stored)
        return stored
      },
    }),
    sink: (of) => ({
      ...of,
      put(put) {
        follow(put)
        return of.put(put)
      },
      writes(put) {
        if (put.checkpoint_ns === '') writes.set(put.checkpoint_id, [...(writes.get(put.checkpoint_id) ?? []), put])
        return of.writes(put)
      },
    }),
    stored() {
      if (last === undefined || !whole.has(last.checkpoint_id)) return undefined
      const { values: _, ...put } = last
      const versions = Object.entries(versionsOf(put.checkpoint))
      if (versions.some(([channel, version]) => unknown.has(keyOf(channel, version)))) return undefined
      const found = versions.flatMap(([channel, version]) => {
        const value = values.get(keyOf(channel, version))
        return value ? [{ channel, ...value }] : []
      })
      const written = inOrder(writes.get(last.checkpoint_id) ?? [])
      if (!found.every(isKnown) || !written.every(isKnown)) return undefined
      return {
        ...put,
        values: found.map(({ channel, type, parts, chain, splices }) => ({
          channel,
          blob: completed({ type, bytes: joinLists(parts) }, splices),
          ...(chain && { chain }),
        })),
        writes: written.map(({ splices, ...write }) => ({ ...write, blob: completed(write.blob, splices) })),
      }
    },
  }
}

/** A checkpoint that LangGraph may go on changing without changing this one: it counts versions in it. A structured clone takes
 *  ten times as long. */
function copyOf({ channel_versions, versions_seen, ...rest }: Record<string, unknown>): Record<string, unknown> {
  const seen = Object.entries((versions_seen ?? {}) as Record<string, object>)
  return {
    ...rest,
    channel_versions: { ...(channel_versions as object) },
    versions_seen: Object.fromEntries(seen.map(([task, versions]) => [task, { ...versions }])),
  }
}

const keyOf = (channel: string, version: unknown): string => `${channel}\n${version}`
const versionsOf = (checkpoint: Record<string, unknown>) => checkpoint.channel_versions as Record<string, string>

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Writes as they are read back: a special one replaces the one before, a regular one never does. */
function inOrder(puts: readonly WritesPut[]): (StoredCheckpoint['writes'][number] & { splices?: Splice[] })[] {
  const found = new Map<string, ReturnType<typeof inOrder>[number]>()
  for (const { task_id, task_path, writes } of puts) {
    for (const write of writes) {
      const key = `${task_id}\n${write.idx}`
      const before = found.get(key)
      if (before === undefined || write.idx < 0)
        found.set(key, { ...write, task_id, task_path: before?.task_path ?? task_path })
    }
  }
  return [...found.values()].sort(
    (a, b) => compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx,
  )
}
