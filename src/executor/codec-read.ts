// The reading half of the codec: gives values back from the JSON that codec-write.ts made. In charge of the closed table of
// what a tag may become; must never look a class up by a name that is not in that table, nor touch a prototype.

import { CodecError, MESSAGE_CLASSES, put, TAG } from './codec-write.ts'

/** What each kind of tag becomes: from its value (already revived) and, for messages, the arguments kept beside. */
export type Revivers = ReadonlyMap<string, (v: never, x?: Fields) => unknown>

type Fields = Record<string, unknown>
type Class = new (...args: unknown[]) => object

/** Parses what the codec wrote. `revived` makes of a tree with tags what it is; text without a tag costs only JSON.parse. */
export function revive(text: string, revived: (tree: unknown) => unknown): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new CodecError('A stored value is not what this server wrote: its bytes are damaged.')
  }
  return text.includes(`"${TAG}"`) ? revived(value) : value
}

/** A parsed tree as the value that it stands for. Changes the tree. */
export const reviveTree = (tree: unknown, revivers: Revivers): unknown => walk(tree, revivers)

function walk(value: unknown, revivers: Revivers): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const item = value[i]
      if (typeof item === 'object' && item !== null) value[i] = walk(item, revivers)
    }
    return value
  }
  const fields = value as Fields
  for (const key of Object.keys(fields)) {
    const item = fields[key]
    if (typeof item !== 'object' || item === null) continue
    const revived = walk(item, revivers)
    if (revived !== item) put(fields, key, revived)
  }
  return Object.hasOwn(fields, TAG) ? untag(fields, revivers) : fields
}

function untag(fields: Fields, revivers: Revivers): unknown {
  const kind = fields[TAG]
  const make = typeof kind === 'string' ? revivers.get(kind) : undefined
  if (make === undefined)
    throw new CodecError(`A stored value is of the kind "${kind}", which this server cannot read.`)
  return make(fields.v as never, fields.x as Fields | undefined)
}

/** The revivers that make real values, with these classes for messages, documents, sends, commands and snapshots. */
export function createRevivers(classes: Record<string, unknown>): Revivers {
  const get = (name: string): Class => {
    const found = classes[name]
    if (typeof found !== 'function')
      throw new CodecError(`A stored ${name} needs a newer @langchain/core in the graph's project.`)
    return found as Class
  }
  const table = new Map<string, (v: never, x?: Fields) => unknown>(Object.entries(natives))
  for (const name of MESSAGE_CLASSES) table.set(name, (v: Fields, x?: Fields) => message(get(name), v, x))
  table.set('Document', (v: Fields) => assign(new (get('Document'))(v), v))
  table.set('DeltaSnapshot', (v: Fields) => new (get('DeltaSnapshot'))(v.value))
  // The constructors rewrite plain objects in their arguments, so these are set afterwards.
  table.set('Send', (v: Fields) => assign(new (get('Send'))(v.node, undefined, { timeout: v.timeout }), v))
  table.set('Command', (v: Fields) => assign(new (get('Command'))(v), v))
  return table
}

// The constructors also rewrite and warn (content of output version v1, raw tool calls): the fields as stored win.
function message(Message: Class, v: Fields, x: Fields | undefined): object {
  const made = new Message({ content: '' }) as Fields & { lc_kwargs?: Fields }
  assign(made, v)
  if (made.lc_kwargs) assign(assign(made.lc_kwargs, v), isVersion1(v) ? { contentBlocks: v.content, ...x } : (x ?? {}))
  return made
}

/** Whether a message's content is in the form of output version v1. */
export const isVersion1 = (v: Fields): boolean => (v.response_metadata as Fields | undefined)?.output_version === 'v1'

function assign<T extends object>(target: T, fields: Fields): T {
  for (const key of Object.keys(fields)) put(target, key, fields[key])
  return target
}

const natives: Record<string, (v: never) => unknown> = {
  undefined: () => undefined,
  number: (v: string) => Number(v),
  bigint: (v: string) => BigInt(v),
  object: (v: [string, unknown][]) => Object.fromEntries(v),
  array: ([length, items]: [number, [number, unknown][]]) => {
    const list: unknown[] = []
    list.length = length
    for (const [i, item] of items) list[i] = item
    return list
  },
  Date: (v: number | null) => new Date(v ?? Number.NaN),
  Map: (v: [unknown, unknown][]) => new Map(v),
  Set: (v: unknown[]) => new Set(v),
  RegExp: ([source, flags]: [string, string]) => new RegExp(source, flags),
  Error: ([name, text]: [string, string]) => error(name, text),
  Buffer: (v: string) => Buffer.from(v, 'base64'),
  ArrayBuffer: (v: string) => buffer(v),
  DataView: (v: string) => new DataView(buffer(v)),
  Int8Array: (v: string) => new Int8Array(buffer(v)),
  Uint8Array: (v: string) => new Uint8Array(buffer(v)),
  Uint8ClampedArray: (v: string) => new Uint8ClampedArray(buffer(v)),
  Int16Array: (v: string) => new Int16Array(buffer(v)),
  Uint16Array: (v: string) => new Uint16Array(buffer(v)),
  Int32Array: (v: string) => new Int32Array(buffer(v)),
  Uint32Array: (v: string) => new Uint32Array(buffer(v)),
  Float32Array: (v: string) => new Float32Array(buffer(v)),
  Float64Array: (v: string) => new Float64Array(buffer(v)),
  BigInt64Array: (v: string) => new BigInt64Array(buffer(v)),
  BigUint64Array: (v: string) => new BigUint64Array(buffer(v)),
}

function buffer(base64: string): ArrayBuffer {
  const bytes = Buffer.from(base64, 'base64')
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
}

const errors: ReadonlyMap<string, ErrorConstructor> = new Map(
  [Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError].map((type) => [
    type.name,
    type as ErrorConstructor,
  ]),
)

function error(name: string, text: string): Error {
  const made = new (errors.get(name) ?? Error)(text)
  if (made.name !== name) Object.defineProperty(made, 'name', { value: name, writable: true, configurable: true })
  made.stack = `${name}: ${text}`
  return made
}
