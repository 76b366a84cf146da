// Checkpoints that are not stored yet, over those that are: what a state update reads while it writes. Nothing reaches the
// storage beneath it.

import { joinLists, spliced } from '../splices.ts'
import type { Storage } from './executor.ts'
import type { CheckpointSink } from './saver.ts'
import type { Blob, Chain, CheckpointPut, Splice, StoredCheckpoint, WritesPut } from './stored.ts'

/** A storage that shows its own puts, and what was put, in order. */
export interface Overlay {
  storage: Storage
  sink: CheckpointSink
  puts: CheckpointPut[]
  writes: WritesPut[]
}

const key = (...parts: string[]): string => JSON.stringify(parts)

/** Makes an overlay for one call. */
export function createOverlay(base: Storage): Overlay {
  const puts: CheckpointPut[] = []
  const writes: WritesPut[] = []
  // Values by channel version: what was put here, and what was read beneath, because a new checkpoint keeps the versions
  // of channels that it does not change.
  const values = new Map<string, Value>()

  const whole = (blob: Blob, splices: readonly Splice[] = []): Blob => {
    const listOf = ({ checkpoint_ns, channel, version }: Splice) =>
      values.get(key(checkpoint_ns, channel, version)) as Value
    return { type: blob.type, bytes: spliced(blob.bytes, splices, (splice) => listOf(splice).blob.bytes) }
  }
  const learn = (stored: StoredCheckpoint): StoredCheckpoint => {
    const versions = stored.checkpoint.channel_versions as Record<string, string | number>
    for (const { channel, ...value } of stored.values)
      values.set(key(stored.checkpoint_ns, channel, String(versions[channel])), value)
    return stored
  }
  const shown = (put: CheckpointPut): StoredCheckpoint => {
    const versions = Object.entries(put.checkpoint.channel_versions as Record<string, string | number>)
    return {
      ...put,
      values: versions.flatMap(([channel, version]) => {
        const value = values.get(key(put.checkpoint_ns, channel, String(version)))
        return value ? [{ channel, ...value }] : []
      }),
      writes: [],
    }
  }
  const withWrites = (stored: StoredCheckpoint): StoredCheckpoint => {
    const added = writes.filter(
      (put) => put.checkpoint_ns === stored.checkpoint_ns && put.checkpoint_id === stored.checkpoint_id,
    )
    if (added.length === 0) return stored
    const flat = added.flatMap(({ task_id, task_path, writes }) =>
      writes.map(({ splices, ...write }) => ({ ...write, blob: whole(write.blob, splices), task_id, task_path })),
    )
    const replaced = new Set(flat.map((write) => key(write.task_id, String(write.idx))))
    const kept = stored.writes.filter((write) => !replaced.has(key(write.task_id, String(write.idx))))
    return { ...stored, writes: [...kept, ...flat].sort(inOrder) }
  }

  return {
    puts,
    writes,
    sink: {
      put: async (put) => {
        puts.push(put)
        for (const value of put.values) {
          const base = value.list?.base ?? null
          const of = (version: string) => key(put.checkpoint_ns, value.channel, version)
          const added = whole(value.blob, value.splices)
          const known = base === null ? first(value, added) : grown(values.get(of(base)) as Value, added)
          values.set(of(value.version), known)
        }
      },
      writes: async (put) => void writes.push(put),
      settled: () => Promise.resolve(),
    },
    storage: {
      ...base,
      'checkpoint.get': async (params) => {
        const own = puts.filter((put) => put.checkpoint_ns === params.checkpoint_ns)
        const found =
          params.checkpoint_id === undefined
            ? own.at(-1)
            : own.find((put) => put.checkpoint_id === params.checkpoint_id)
        if (found) return withWrites(shown(found))
        const stored = await base['checkpoint.get'](params)
        return stored && withWrites(learn(stored))
      },
    },
  }
}

type Value = Omit<StoredCheckpoint['values'][number], 'channel'>

const first = ({ version, blob, list }: CheckpointPut['values'][number], whole: Blob): Value =>
  list === undefined
    ? { blob: whole }
    : { blob: whole, chain: { id: version, position: 0, whole_bytes: blob.bytes.length, added_bytes: 0 } }

/** A list with what was added to it: both are JSON lists. */
function grown({ blob, chain }: Value, { bytes }: Blob): Value {
  const text = joinLists([blob.bytes, bytes])
  const { position, added_bytes, ...start } = chain as Chain
  return {
    blob: { type: blob.type, bytes: text },
    chain: { ...start, position: position + 1, added_bytes: added_bytes + bytes.length },
  }
}

type Write = StoredCheckpoint['writes'][number]
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
const inOrder = (a: Write, b: Write): number =>
  compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx
