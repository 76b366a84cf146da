// How a saver stores values and writes: a list that only grew as what was added, and one that begins as a list that the thread has
// already (a subgraph is given the list of its parent and returns it; a task may be sent the whole state) without its beginning.

import type { Codec } from './codec.ts'
import { createListMemory, isList, type Place, type StoredList } from './lists.ts'
import type { Chain, CheckpointPut, Splice, StoredCheckpoint, WritesPut } from './stored.ts'

/** Encodes for one saver, and remembers the lists that it stored and read. */
export interface Growth {
  /** The values of a checkpoint's new versions: of each, its channel, its version and itself. */
  values(place: Place, values: readonly [string, string, unknown][]): CheckpointPut['values']
  write(place: Place, idx: number, channel: string, value: unknown): WritesPut['writes'][number]
  /** A checkpoint as it was read, with its values. */
  saw(stored: StoredCheckpoint, values: Record<string, unknown>): void
  clear(): void
}

/** The channel of what is sent to nodes: nothing of it ever grows. */
export const TASKS = '__pregel_tasks'

/** What may be added to a short list before it is stored whole again, in bytes: less would be too often. */
const CHAIN_SLACK = 16_384

/** Parts of this size, in bytes, take little longer to be read than the list in one piece. */
const PART_SIZE = 256

/** Remembers nothing yet. */
export function createGrowth(codec: Codec): Growth {
  const lists = createListMemory()

  /** Encodes a value without what its lists begin with. */
  const apart = ({ thread_id, checkpoint_ns }: Place, channel: string, value: unknown) => {
    if (!lists.hasBeginnings()) return { blob: codec.encode(value, where(channel)) }
    const namespaces = [...above(checkpoint_ns), checkpoint_ns]
    return codec.encodeApart(value, where(channel), (list) => lists.beginning(thread_id, namespaces, list))
  }

  const wholeList = (place: Place, channel: string, version: string, value: unknown[]) => {
    // Only those of other namespaces, so that putting a list together takes no more steps than namespaces have levels.
    const begun = lists.beginning(place.thread_id, above(place.checkpoint_ns), value)
    const blob = codec.encode(value.slice(begun?.length ?? 0), where(channel))
    const bytes = blob.bytes.length
    const chain = { id: version, position: 0, whole_bytes: bytes, added_bytes: 0 }
    lists.remember(place, channel, value, { version, chain, bytes }, begun)
    return {
      channel,
      version,
      blob,
      list: { chain: version, position: 0, base: null },
      ...(begun && { splices: [spliceOf(begun)] }),
    }
  }

  const list = (place: Place, channel: string, version: string, value: unknown[]): CheckpointPut['values'][number] => {
    const base = lists.grown(place, channel, value)
    if (base === undefined || isCrumbled(base.chain)) return wholeList(place, channel, version, value)
    const blob = codec.encode(value.slice(base.length), where(channel))
    const { id, position, added_bytes } = base.chain
    const bytes = blob.bytes.length
    const chain = { ...base.chain, position: position + 1, added_bytes: added_bytes + bytes }
    lists.remember(place, channel, value, { version, chain, bytes }, base)
    return { channel, version, blob, list: { chain: id, position: chain.position, base: base.version } }
  }

  return {
    values(place, values) {
      const growing: [string, string, unknown[]][] = []
      const encoded: CheckpointPut['values'] = []
      for (const [channel, version, value] of values) {
        if (channel !== TASKS && isList(value)) growing.push([channel, version, value])
        else encoded.push({ channel, version, ...apart(place, channel, value) })
      }
      // After the others: what was sent to nodes was made before reducers gave ids to what is new, and begins with the lists before.
      for (const [channel, version, value] of growing) encoded.push(list(place, channel, version, value))
      return encoded
    },
    write(place, idx, channel, value) {
      // A special write may be replaced, and be restored when its run is rolled back.
      if (idx < 0) return { idx, channel, blob: codec.encode(value, where(channel)) }
      return { idx, channel, ...apart(place, channel, value) }
    },
    saw({ checkpoint, values: stored, ...place }, values) {
      const versions = checkpoint.channel_versions as Record<string, unknown>
      for (const { channel, chain, blob } of stored) {
        const version = String(versions[channel])
        const value = values[channel]
        if (chain && isList(value)) lists.remember(place, channel, value, { version, chain, bytes: blob.bytes.length })
      }
    },
    clear: () => lists.clear(),
  }
}

/** The list behind the opening bracket of another. */
const spliceOf = ({ checkpoint_ns, channel, version, bytes }: StoredList): Splice => ({
  at: 1,
  checkpoint_ns,
  channel,
  version,
  bytes,
})

const where = (channel: string) => `channel "${channel}"`

/** The namespaces that one is part of, the outermost first: `a:1|b:2` is part of `a:1`, and that of the root. */
const above = (namespace: string): string[] => {
  if (namespace === '') return []
  const parts = namespace.split('|')
  return parts.map((_, depth) => parts.slice(0, depth).join('|'))
}

/** Whether a list is to be stored whole again: its parts are small and many, and take more than twice the place of the whole. */
const isCrumbled = ({ position, whole_bytes, added_bytes }: Chain): boolean =>
  added_bytes < position * PART_SIZE && added_bytes > 2 * whole_bytes + CHAIN_SLACK
