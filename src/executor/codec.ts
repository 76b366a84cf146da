// The one codec of stored values: channel values, task writes and store values become bytes and come back equal. In charge
// of the format; the closed list of what can be stored is codec-write.ts, what it comes back as is codec-read.ts. Must
// never fall back to another format, and never make an instance of a class that is not on the list.

import { createPlainReader } from './codec-print.ts'
import { createRevivers, revive, reviveTree } from './codec-read.ts'
import { CodecError, flatten } from './codec-write.ts'
import type { LangChain } from './langchain.ts'
import type { Blob } from './stored.ts'
import * as wire from './wire.ts'

export { CodecError } from './codec-write.ts'

/** The classes of the graph's own project that stored values are revived as. */
export type LangChainClasses = Pick<LangChain, 'messages' | 'documents' | 'langgraph' | 'checkpoint'>

export interface Codec {
  /** Turns a value into bytes. `where` says whose value it is ("channel messages") in the `CodecError` that is thrown
   *  for what cannot be stored. The value is not changed and may be changed afterwards. */
  encode(value: unknown, where: string): Blob
  /** Gives the value back. Throws `CodecError` for bytes that this codec did not write. */
  decode(blob: Blob): unknown
  /** The value as the API prints it: plain data, made without the messages in it. Throws as `decode` does. */
  plain(blob: Blob): unknown
}

/** Makes the codec for graphs that use these copies of the LangChain packages. */
export function createCodec(langchain: LangChainClasses): Codec {
  const revivers = createRevivers({
    ...(langchain.messages as unknown as Record<string, unknown>),
    Document: langchain.documents.Document,
    Send: langchain.langgraph.Send,
    Command: langchain.langgraph.Command,
    DeltaSnapshot: langchain.checkpoint.DeltaSnapshot,
  })
  const toPlain = createPlainReader(revivers)
  const toValue = (tree: unknown) => reviveTree(tree, revivers)
  const checked = ({ type, bytes }: Blob): string => {
    if (type !== 'json') throw new CodecError(`A stored value has the format "${type}", which this server cannot read.`)
    return textOf(bytes)
  }
  return {
    encode(value, where) {
      if (value instanceof Uint8Array && value.constructor === Uint8Array)
        return { type: 'bytes', bytes: Uint8Array.from(value) }
      return { type: 'json', bytes: Buffer.from(stringify(value, where), 'utf8') }
    },
    decode: (blob) => (blob.type === 'bytes' ? Uint8Array.from(blob.bytes) : revive(checked(blob), toValue)),
    plain: (blob) => (blob.type === 'bytes' ? wire.plain(blob.bytes) : revive(checked(blob), toPlain)),
  }
}

function stringify(value: unknown, where: string): string {
  const flat = flatten(value, where)
  try {
    return JSON.stringify(flat)
  } catch (error) {
    if (error instanceof RangeError)
      throw new CodecError(`The value of ${where} is nested too deeply or too large to store.`)
    throw error
  }
}

const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
