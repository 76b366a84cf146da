// The one codec of stored values: channel values, task writes and store values become bytes and come back equal. In charge
// of the format; the closed list of what can be stored is codec-write.ts, what it comes back as is codec-read.ts. Must
// never fall back to another format, and never make an instance of a class that is not on the list.

import { randomUUID } from 'node:crypto'
import { createPlainReader } from './codec-print.ts'
import { createRevivers, revive, reviveTree } from './codec-read.ts'
import { CodecError, flatten, type MarkBeginning } from './codec-write.ts'
import type { LangChain } from './langchain.ts'
import type { Blob, Splice } from './stored.ts'
import * as wire from './wire.ts'

export { CodecError } from './codec-write.ts'

/** The classes of the graph's own project that stored values are revived as. */
export type LangChainClasses = Pick<LangChain, 'messages' | 'documents' | 'langgraph' | 'checkpoint'>

export interface Codec {
  /** Turns a value into bytes. `where` says whose value it is ("channel messages") in the `CodecError` that is thrown
   *  for what cannot be stored. The value is not changed and may be changed afterwards. */
  encode(value: unknown, where: string): Blob
  /** As `encode`, but without the items that `beginning` says a list in it begins with; says where those belong. */
  encodeApart(value: unknown, where: string, beginning: FindBeginning): { blob: Blob; splices?: Splice[] }
  /** Gives the value back. Throws `CodecError` for bytes that this codec did not write. */
  decode(blob: Blob): unknown
  /** The value as the API prints it: plain data, made without the messages in it. Throws as `decode` does. */
  plain(blob: Blob): unknown
}

/** A list that is stored already, and how many items it has; undefined where none is known that a list begins with. */
export type FindBeginning = (list: unknown[]) => (Omit<Splice, 'at'> & { length: number }) | undefined

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
  const encode = (value: unknown, where: string, marked?: MarkBeginning): Blob =>
    value instanceof Uint8Array && value.constructor === Uint8Array
      ? { type: 'bytes', bytes: Uint8Array.from(value) }
      : { type: 'json', bytes: Buffer.from(stringify(value, where, marked), 'utf8') }
  return {
    encode: (value, where) => encode(value, where),
    encodeApart(value, where, beginning) {
      const found: Omit<Splice, 'at'>[] = []
      const blob = encode(value, where, (list) => {
        const begun = beginning(list)
        if (begun === undefined) return undefined
        const { checkpoint_ns, channel, version, bytes, length } = begun
        return { length, mark: `${MARK}${found.push({ checkpoint_ns, channel, version, bytes }) - 1}` }
      })
      return found.length === 0 ? { blob } : withoutMarks(blob, found)
    },
    decode: (blob) => (blob.type === 'bytes' ? Uint8Array.from(blob.bytes) : revive(checked(blob), toValue)),
    plain: (blob) => (blob.type === 'bytes' ? wire.plain(blob.bytes) : revive(checked(blob), toPlain)),
  }
}

/** Stands in a list for what it begins with, until the bytes are made: nothing else can have this text. */
const MARK = `beginning ${randomUUID()} `
const MARKED = new RegExp(`"${MARK}(\\d+)",?`)

/** Takes the marks out, and says where they stood. */
function withoutMarks({ type, bytes }: Blob, found: readonly Omit<Splice, 'at'>[]): { blob: Blob; splices: Splice[] } {
  const [first = '', ...rest] = textOf(bytes).split(MARKED)
  const pieces = [Buffer.from(first)]
  const splices: Splice[] = []
  let at = pieces[0]?.length ?? 0
  for (let i = 0; i < rest.length; i += 2) {
    splices.push({ at, ...(found[Number(rest[i])] as Omit<Splice, 'at'>) })
    const piece = Buffer.from(rest[i + 1] as string)
    pieces.push(piece)
    at += piece.length
  }
  return { blob: { type, bytes: Buffer.concat(pieces) }, splices }
}

function stringify(value: unknown, where: string, marked?: MarkBeginning): string {
  const flat = flatten(value, where, marked)
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
