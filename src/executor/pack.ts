// Checkpoints in frames. In charge of moving blobs' bytes between messages and frame bodies; knows nothing of what the
// bytes mean.

import type { BlobHead, GuestCalls, HostCalls, Packed } from './protocol.ts'
import type { Blob, CheckpointPut, StoredCheckpoint, WritesPut } from './stored.ts'

type WithBlob = { blob: Blob }
type WithHead<T extends WithBlob> = Omit<T, 'blob'> & { blob: BlobHead }

/** Collects the bytes of the blobs packed with it, in order. */
export class Packer {
  readonly #parts: Uint8Array[] = []
  /** The packed blobs' bytes as one body. */
  body(): Uint8Array | undefined {
    if (this.#parts.length === 0) return undefined
    return this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts)
  }
  #items<T extends WithBlob>(items: T[]): WithHead<T>[] {
    return items.map((item) => {
      this.#parts.push(item.blob.bytes)
      return { ...item, blob: { type: item.blob.type, size: item.blob.bytes.length } }
    })
  }
  put(put: CheckpointPut): Packed<CheckpointPut> {
    return { ...put, values: this.#items(put.values) }
  }
  writes(writes: WritesPut): Packed<WritesPut> {
    return { ...writes, writes: this.#items(writes.writes) }
  }
  stored(stored: StoredCheckpoint): Packed<StoredCheckpoint> {
    return { ...stored, values: this.#items(stored.values), writes: this.#items(stored.writes) }
  }
}

/** Gives packed values their bytes back, in the order in which they were packed. */
export class Unpacker {
  readonly #body: Uint8Array
  #at = 0
  constructor(body: Uint8Array | undefined) {
    this.#body = body ?? new Uint8Array(0)
  }
  #items<T extends { blob: BlobHead }>(items: T[]): (Omit<T, 'blob'> & WithBlob)[] {
    return items.map((item) => {
      const from = this.#at
      this.#at += item.blob.size
      if (this.#at > this.#body.length) throw new Error('Malformed frame: a blob reaches beyond the body.')
      return { ...item, blob: { type: item.blob.type, bytes: this.#body.subarray(from, this.#at) } }
    })
  }
  put(put: Packed<CheckpointPut>): CheckpointPut {
    return { ...put, values: this.#items(put.values) }
  }
  writes(writes: Packed<WritesPut>): WritesPut {
    return { ...writes, writes: this.#items(writes.writes) }
  }
  stored(stored: Packed<StoredCheckpoint>): StoredCheckpoint {
    return { ...stored, values: this.#items(stored.values), writes: this.#items(stored.writes) }
  }
}

/** An answer as it stands in a frame. */
interface PackedAnswer {
  value: unknown
  body?: Uint8Array
}

const utf8 = new TextDecoder()

/** A call's answer with its texts and blobs moved to the body. */
export function packAnswer(method: keyof HostCalls | keyof GuestCalls, value: unknown): PackedAnswer {
  if (value === null || value === undefined) return { value: null }
  const packer = new Packer()
  switch (method) {
    case 'state.get':
    case 'state.history':
      return { value: {}, body: Buffer.from((value as { text: string }).text) }
    case 'state.update': {
      const update = value as HostCalls['state.update']['value']
      const puts = update.puts.map((put) => packer.put(put))
      const writes = update.writes.map((item) => packer.writes(item))
      return { value: { ...update, puts, writes }, body: packer.body() }
    }
    case 'embed':
      return packVectors((value as HostCalls['embed']['value']).vectors)
    case 'checkpoint.get':
      return { value: packer.stored(value as StoredCheckpoint), body: packer.body() }
    case 'checkpoint.list':
      return { value: (value as StoredCheckpoint[]).map((item) => packer.stored(item)), body: packer.body() }
    default:
      return { value }
  }
}

/** The answer that `packAnswer` packed. */
export function unpackAnswer(method: keyof HostCalls | keyof GuestCalls, value: unknown, body?: Uint8Array): unknown {
  if (value === null) return null
  const unpacker = new Unpacker(body)
  switch (method) {
    case 'state.get':
    case 'state.history':
      return { text: utf8.decode(body) }
    case 'state.update': {
      const update = value as { puts: Packed<CheckpointPut>[]; writes: Packed<WritesPut>[] }
      const puts = update.puts.map((put) => unpacker.put(put))
      return { ...update, puts, writes: update.writes.map((item) => unpacker.writes(item)) }
    }
    case 'embed':
      return { vectors: unpackVectors(value as { count: number; dims: number }, body) }
    case 'checkpoint.get':
      return unpacker.stored(value as Packed<StoredCheckpoint>)
    case 'checkpoint.list':
      return (value as Packed<StoredCheckpoint>[]).map((item) => unpacker.stored(item))
    default:
      return value
  }
}

function packVectors(vectors: Float32Array[]): PackedAnswer {
  const dims = vectors[0]?.length ?? 0
  const body = Buffer.alloc(vectors.length * dims * 4)
  let at = 0
  for (const vector of vectors) for (const number of vector) at = body.writeFloatLE(number, at)
  return { value: { count: vectors.length, dims }, body }
}

function unpackVectors({ count, dims }: { count: number; dims: number }, body: Uint8Array = new Uint8Array(0)) {
  if (body.length !== count * dims * 4) throw new Error('Malformed frame: the vectors do not fill the body.')
  const view = new DataView(body.buffer, body.byteOffset, body.length)
  return Array.from({ length: count }, (_, i) =>
    Float32Array.from({ length: dims }, (_, k) => view.getFloat32((i * dims + k) * 4, true)),
  )
}
