// Excerpts: what a task wrote mostly stands in the value that its channel has in the next checkpoint, and need not be stored
// twice. In charge of finding it there and of the form of what is stored instead; must give back the very bytes of the write.

import type { Blob, CheckpointPut, WritesPut } from '../executor/stored.ts'

/** A write as it is stored: `source` is the version of its channel that it was taken from, null where it stands for itself. */
export interface Stored {
  blob: Blob
  source: string | null
}

interface PutValue {
  /** Of which entry of the batch. */
  i: number
  put: Pick<CheckpointPut, 'thread_id' | 'checkpoint_ns' | 'parent_checkpoint_id'>
  value: Pick<CheckpointPut['values'][number], 'channel' | 'version' | 'blob'>
}

/** Takes the values of a batch; gives a function that makes of each write of the batch what is to be stored. Only values of the
 *  same entry count, since they are written with the write or not at all, and only those of checkpoints after the write's. */
export function createExcerpts(
  values: readonly PutValue[],
): (i: number, of: WritesPut, write: WritesPut['writes'][number]) => Stored {
  const byPlace = new Map<string, PutValue['value']>()
  for (const { i, put, value } of values) {
    const { thread_id, checkpoint_ns, parent_checkpoint_id } = put
    if (value.blob.bytes.length >= WORTH && parent_checkpoint_id !== null)
      byPlace.set(placeOf(i, thread_id, checkpoint_ns, parent_checkpoint_id, value.channel), value)
  }
  return (i, of, { idx, channel, blob }) => {
    // A special write may be replaced, and be restored when its run is rolled back.
    const isCandidate = byPlace.size > 0 && idx >= 0 && blob.bytes.length >= WORTH
    const value = isCandidate
      ? byPlace.get(placeOf(i, of.thread_id, of.checkpoint_ns, of.checkpoint_id, channel))
      : undefined
    const bytes = value && excerptOf(blob.bytes, value.blob.bytes)
    return value && bytes ? { blob: { type: blob.type, bytes }, source: value.version } : { blob, source: null }
  }
}

const placeOf = (i: number, threadId: string, namespace: string, checkpointId: string, channel: string): string =>
  `${i}\n${threadId}\n${namespace}\n${checkpointId}\n${channel}`

/** Less than this in common is not worth the excerpt's own place (its header and the version's name). */
const WORTH = 64
/** How much larger a value may be than what is taken from it: whoever reads the write has to read the value. */
const MAX_RATIO = 8
/** What is looked for in the value, in bytes: the end of the write, because its beginning is where ids are put in. */
const ANCHOR = 48
// Three numbers: how many of the write's own bytes come first, where the value's begin, and how many they are.
const HEADER = 12

/** What a write has beside the value that it stands in; undefined where too little of it stands there. */
export function excerptOf(write: Uint8Array, value: Uint8Array): Uint8Array | undefined {
  if (write.length < WORTH || value.length > write.length * MAX_RATIO) return undefined
  const [ours, theirs] = [bufferOf(write), bufferOf(value)]
  let [end, at] = [ours.length, theirs.length]
  let size = commonEnd(ours, end, theirs, at)
  if (size < WORTH) {
    // Without what closes it: an element of a list is followed by the next one.
    end--
    const anchor = theirs.lastIndexOf(ours.subarray(end - ANCHOR, end))
    if (anchor < 0) return undefined
    at = anchor + ANCHOR
    size = ANCHOR + commonEnd(ours, end - ANCHOR, theirs, anchor)
  }
  if (size < WORTH || theirs.length > size * MAX_RATIO) return undefined
  const head = end - size
  const excerpt = Buffer.allocUnsafe(HEADER + ours.length - size)
  excerpt.writeUInt32BE(head, 0)
  excerpt.writeUInt32BE(at - size, 4)
  excerpt.writeUInt32BE(size, 8)
  ours.copy(excerpt, HEADER, 0, head)
  ours.copy(excerpt, HEADER + head, end)
  return excerpt
}

/** The write that an excerpt was made of, from the value that it was made with. */
export function restore(excerpt: Uint8Array, value: Uint8Array): Uint8Array {
  const stored = bufferOf(excerpt)
  const [head, start, size] = [stored.readUInt32BE(0), stored.readUInt32BE(4), stored.readUInt32BE(8)]
  const own = stored.subarray(HEADER)
  if (head > own.length || start + size > value.length) throw new Error('A stored write does not fit its value.')
  return Buffer.concat([own.subarray(0, head), value.subarray(start, start + size), own.subarray(head)])
}

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const BLOCK = 512

/** How many bytes before these places are the same. */
function commonEnd(a: Buffer, endA: number, b: Buffer, endB: number): number {
  const limit = Math.min(endA, endB)
  let size = 0
  while (
    size + BLOCK <= limit &&
    a.compare(b, endB - size - BLOCK, endB - size, endA - size - BLOCK, endA - size) === 0
  )
    size += BLOCK
  while (size < limit && a[endA - size - 1] === b[endB - size - 1]) size++
  return size
}
