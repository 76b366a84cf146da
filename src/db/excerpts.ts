// Excerpts: what a task wrote mostly stands in the value that its channel has in the next checkpoint, and need not be stored
// twice. In charge of finding it there and of the form of what is stored instead; must give back the very bytes of the write.

import type { Blob, CheckpointPut, WritesPut } from '../executor/protocol.ts'

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
/** What is looked for in the value: the end of the write, because its beginning is where ids are put in. */
const ANCHOR = 48
// Three numbers: how many of the write's own bytes come first, where the value's begin, and how many they are.
const HEADER = 12

/** What a write has beside the value that it stands in; undefined where too little of it stands there. */
export function excerptOf(write: Uint8Array, value: Uint8Array): Uint8Array | undefined {
  if (write.length < WORTH || value.length > write.length * MAX_RATIO) return undefined
  const [ours, theirs] = [bufferOf(write), bufferOf(value)]
  // Without what closes it: an element of a list is followed by the next one.
  const last = ours.length - 1
  const at = theirs.lastIndexOf(ours.subarray(last - ANCHOR, last))
  if (at < 0) return undefined
  const before = commonEnd(ours.subarray(0, last - ANCHOR), theirs.subarray(0, at))
  const isClosed = ours[last] === theirs[at + ANCHOR]
  const start = at - before
  const size = before + ANCHOR + (isClosed ? 1 : 0)
  if (size < WORTH || theirs.length > size * MAX_RATIO) return undefined
  const head = last - ANCHOR - before
  const header = Buffer.allocUnsafe(HEADER)
  header.writeUInt32BE(head, 0)
  header.writeUInt32BE(start, 4)
  header.writeUInt32BE(size, 8)
  return Buffer.concat([header, ours.subarray(0, head), ours.subarray(head + size)])
}

/** The write that an excerpt was made of, from the value that it was made with. */
export function restore(excerpt: Uint8Array, value: Uint8Array): Uint8Array {
  const stored = bufferOf(excerpt)
  const [head, start, size] = [stored.readUInt32BE(0), stored.readUInt32BE(4), stored.readUInt32BE(8)]
  const own = stored.subarray(HEADER)
  if (head > own.length || start + size > value.length) throw new Error('A stored write does not fit its value.')
  return Buffer.concat([own.subarray(0, head), value.subarray(start, start + size), own.subarray(head)])
}

const bufferOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer => Buffer.from(buffer, byteOffset, byteLength)

const BLOCK = 512

/** How many bytes at their ends are the same. */
function commonEnd(a: Buffer, b: Buffer): number {
  const limit = Math.min(a.length, b.length)
  let size = 0
  while (size + BLOCK <= limit && isSame(a, b, size)) size += BLOCK
  while (size < limit && a[a.length - size - 1] === b[b.length - size - 1]) size++
  return size
}

const isSame = (a: Buffer, b: Buffer, size: number): boolean => {
  const [endA, endB] = [a.length - size, b.length - size]
  return a.subarray(endA - BLOCK, endA).equals(b.subarray(endB - BLOCK, endB))
}
