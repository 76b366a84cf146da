// Checkpoints that are not stored yet, over those that are: what a state update reads while it writes. Nothing reaches the
// storage beneath it.

import type { Storage } from './executor.ts'
import type { Blob, CheckpointPut, StoredCheckpoint, WritesPut } from './protocol.ts'
import type { CheckpointSink } from './saver.ts'

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
  const values = new Map<string, Blob>()

  const learn = (stored: StoredCheckpoint): StoredCheckpoint => {
    const versions = stored.checkpoint.channel_versions as Record<string, string | number>
    for (const { channel, blob } of stored.values)
      values.set(key(stored.checkpoint_ns, channel, String(versions[channel])), blob)
    return stored
  }
  const shown = (put: CheckpointPut): StoredCheckpoint => {
    const versions = Object.entries(put.checkpoint.channel_versions as Record<string, string | number>)
    return {
      ...put,
      values: versions.flatMap(([channel, version]) => {
        const blob = values.get(key(put.checkpoint_ns, channel, String(version)))
        return blob ? [{ channel, blob }] : []
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
      writes.map((write) => ({ ...write, task_id, task_path })),
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
        for (const { channel, version, blob } of put.values) values.set(key(put.checkpoint_ns, channel, version), blob)
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

type Write = StoredCheckpoint['writes'][number]
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
const inOrder = (a: Write, b: Write): number =>
  compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx
