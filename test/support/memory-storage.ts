// Checkpoints and store items in memory, behind the same seam as the database: what the executor's own tests run against.

import type { RunSink, Storage } from '../../src/executor/executor.ts'
import type { StoreOp, StreamEvent } from '../../src/executor/protocol.ts'
import type { Blob, Chain, CheckpointPut, Splice, StoredCheckpoint, WritesPut } from '../../src/executor/stored.ts'
import { spliced } from '../../src/splices.ts'

type Value = CheckpointPut['values'][number]

export interface MemoryStorage {
  storage: Storage
  put(put: CheckpointPut): Promise<void>
  writes(writes: WritesPut): Promise<void>
  deleteThread(threadId: string): Promise<void>
  /** Every checkpoint of a thread's namespace, oldest first. */
  checkpoints(threadId: string, namespace?: string): CheckpointPut[]
  /** How often each storage call was made. */
  calls: Record<string, number>
}

const address = (...parts: string[]) => JSON.stringify(parts)

export function createMemoryStorage(): MemoryStorage {
  const puts = new Map<string, CheckpointPut>()
  const values = new Map<string, Value>()
  const writes = new Map<string, Map<string, WritesPut['writes'][number] & { task_id: string; task_path: string }>>()
  const items = new Map<string, { value: Record<string, unknown>; created_at: string; updated_at: string }>()
  const calls: Record<string, number> = {}

  /** A blob with the lists that begin in it. */
  const complete = (thread: string, { type, bytes }: Blob, splices: readonly Splice[] = []): Blob => {
    const listOf = ({ checkpoint_ns, channel, version }: Splice) =>
      whole(thread, checkpoint_ns, values.get(address(thread, checkpoint_ns, channel, version)) as Value).blob.bytes
    return { type, bytes: spliced(bytes, splices, listOf) }
  }
  /** A value, put together from what each version added where it is a list. */
  const whole = (thread: string, namespace: string, value: Value): { blob: Blob; chain?: Chain } => {
    if (value.list === undefined) return { blob: complete(thread, value.blob, value.splices) }
    const items: unknown[] = []
    const chain = { id: value.list.chain, position: value.list.position, whole_bytes: 0, added_bytes: 0 }
    for (let part: Value | undefined = value; part !== undefined; ) {
      const { bytes } = complete(thread, part.blob, part.splices)
      items.unshift(...(JSON.parse(Buffer.from(bytes).toString()) as unknown[]))
      const base: string | null = part.list?.base ?? null
      chain[base === null ? 'whole_bytes' : 'added_bytes'] += part.blob.bytes.length
      part = base === null ? undefined : values.get(address(thread, namespace, value.channel, base))
    }
    return { blob: { type: value.blob.type, bytes: Buffer.from(JSON.stringify(items)) }, chain }
  }
  const stored = (put: CheckpointPut): StoredCheckpoint => {
    const versions = put.checkpoint.channel_versions as Record<string, string>
    const found = Object.entries(versions).flatMap(([channel, version]) => {
      const value = values.get(address(put.thread_id, put.checkpoint_ns, channel, String(version)))
      if (value === undefined) return []
      return [{ channel, ...whole(put.thread_id, put.checkpoint_ns, value) }]
    })
    const pending = [...(writes.get(address(put.thread_id, put.checkpoint_ns, put.checkpoint_id))?.values() ?? [])].map(
      ({ splices, ...write }) => ({ ...write, blob: complete(put.thread_id, write.blob, splices) }),
    )
    pending.sort((a, b) =>
      a.task_path !== b.task_path
        ? a.task_path < b.task_path
          ? -1
          : 1
        : a.task_id !== b.task_id
          ? a.task_id < b.task_id
            ? -1
            : 1
          : a.idx - b.idx,
    )
    const { values: _, ...rest } = put
    return { ...rest, values: found, writes: pending }
  }
  const inThread = (threadId: string, namespace?: string) =>
    [...puts.values()]
      .filter((put) => put.thread_id === threadId && (namespace === undefined || put.checkpoint_ns === namespace))
      .sort((a, b) => (a.checkpoint_id < b.checkpoint_id ? -1 : 1))

  const count = (name: string) => {
    calls[name] = (calls[name] ?? 0) + 1
  }
  return {
    calls,
    storage: {
      'checkpoint.get': async ({ thread_id, checkpoint_ns, checkpoint_id }) => {
        count('checkpoint.get')
        const all = inThread(thread_id, checkpoint_ns)
        const put = checkpoint_id === undefined ? all.at(-1) : all.find((each) => each.checkpoint_id === checkpoint_id)
        return put ? stored(put) : null
      },
      'checkpoint.list': async ({ thread_id, checkpoint_ns, checkpoint_id, before, limit, metadata, history_of }) => {
        count('checkpoint.list')
        // More than what is asked for may be given.
        if (history_of) return inThread(thread_id, checkpoint_ns).reverse().map(stored)
        return inThread(thread_id, checkpoint_ns)
          .reverse()
          .filter((put) => checkpoint_id === undefined || put.checkpoint_id === checkpoint_id)
          .filter((put) => before === undefined || put.checkpoint_id < before)
          .filter((put) => Object.entries(metadata ?? {}).every(([key, value]) => put.metadata[key] === value))
          .slice(0, limit)
          .map(stored)
      },
      'store.batch': async ({ ops }) => {
        count('store.batch')
        return ops.map((op) => storeOp(items, op))
      },
    },
    put: async (put) => {
      puts.set(address(put.thread_id, put.checkpoint_ns, put.checkpoint_id), structuredClone(put))
      for (const value of put.values)
        values.set(address(put.thread_id, put.checkpoint_ns, value.channel, value.version), value)
    },
    writes: async (put) => {
      const key = address(put.thread_id, put.checkpoint_ns, put.checkpoint_id)
      const known = writes.get(key) ?? new Map()
      writes.set(key, known)
      for (const write of put.writes)
        known.set(address(put.task_id, String(write.idx)), { ...write, task_id: put.task_id, task_path: put.task_path })
    },
    deleteThread: async (threadId) => {
      for (const map of [puts, values, writes])
        for (const key of map.keys()) if (JSON.parse(key)[0] === threadId) map.delete(key)
    },
    checkpoints: inThread,
  }
}

function storeOp(
  items: Map<string, { value: Record<string, unknown>; created_at: string; updated_at: string }>,
  op: StoreOp,
) {
  if (op.op === 'put') {
    const now = new Date().toISOString()
    const key = address(...op.namespace, op.key)
    if (op.value === null) items.delete(key)
    else items.set(key, { value: op.value, created_at: items.get(key)?.created_at ?? now, updated_at: now })
    return null
  }
  const all = [...items].map(([key, item]) => {
    const path = JSON.parse(key) as string[]
    return { ...item, namespace: path.slice(0, -1), key: path.at(-1) as string }
  })
  if (op.op === 'get')
    return all.find((item) => address(...item.namespace, item.key) === address(...op.namespace, op.key)) ?? null
  if (op.op === 'search')
    return all
      .filter((item) => op.namespace_prefix.every((label, i) => item.namespace[i] === label))
      .slice(op.offset, op.offset + op.limit)
  return [...new Set(all.map((item) => JSON.stringify(item.namespace)))].map((text) => JSON.parse(text))
}

/** A sink that stores checkpoints in `memory` and keeps the events. */
export function createRecordingSink(memory: MemoryStorage): RunSink & { readonly seen: StreamEvent[] } {
  const seen: StreamEvent[] = []
  return {
    seen,
    events: async (events) => void seen.push(...events),
    put: memory.put,
    writes: memory.writes,
  }
}
