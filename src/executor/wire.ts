// JSON as the API sends it. In charge of how values of graph code look to clients: messages as plain objects with a type,
// Map as an object (pairs where a key is no string), Set as a list, bytes as base64, Date as ISO text, Error as {name,
// message}, bigint as a number (text where unsafe), an instance as its toJSON() or else its own properties; what JSON cannot
// say is left out or null. Never used to store anything: what is printed cannot be read back.

import { types } from 'node:util'
import { messageOf } from '../errors.ts'
import { messageName, put } from './codec-write.ts'

type Fields = Record<string, unknown>

const MAX_DEPTH = 1_000

export interface PrintOptions {
  /** True where chunks are streamed: message chunks keep their class as type ("AIMessageChunk"). Otherwise a chunk that
   *  ended up in state looks like the message it is ("ai"). */
  chunks?: boolean
}

/** Prints a value as JSON text on one line. A cycle prints as "[Circular]", what is over 1,000 levels deep as "[Too deep]".
 *  Throws only where user code throws (a getter, a toJSON). */
export function print(value: unknown, options: PrintOptions = {}): string {
  try {
    return JSON.stringify(new Printer(options.chunks === true).any(value)) ?? 'null'
  } catch (error) {
    throw new Error(`A value cannot be sent as JSON: ${messageOf(error)}`, { cause: error })
  }
}

/** The same as a value: plain data that JSON.stringify prints as `print` does. */
export function plain(value: unknown, options: PrintOptions = {}): unknown {
  return new Printer(options.chunks === true).any(value)
}

/** A value that is plain data already, and printed as it is. */
export class Plain {
  readonly value: unknown
  constructor(value: unknown) {
    this.value = value
  }
}

// One per print. Like the codec's walk it copies only what JSON.stringify would print otherwise.
class Printer {
  readonly #chunks: boolean
  readonly #ancestors: object[] = []

  constructor(chunks: boolean) {
    this.#chunks = chunks
  }

  any(value: unknown): unknown {
    if (typeof value === 'object') return value === null ? null : this.#object(value)
    if (typeof value !== 'bigint') return value
    return BigInt.asIntN(54, value) === value && Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  }

  #object(value: object): unknown {
    if (this.#ancestors.includes(value)) return '[Circular]'
    if (this.#ancestors.length >= MAX_DEPTH) return '[Too deep]'
    this.#ancestors.push(value)
    const printable = this.#byShape(value)
    this.#ancestors.pop()
    return printable
  }

  #byShape(value: object): unknown {
    if (Array.isArray(value)) return this.#list(value)
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype === Object.prototype || prototype === null) return this.#plain(value as Fields)
    const name = messageName(value)
    return name === undefined ? this.#instance(value as Fields) : this.#message(value as Fields, name)
  }

  #list(list: unknown[]): unknown {
    let copy = typeof (list as { toJSON?: unknown }).toJSON === 'function' ? Array.from(list) : undefined
    for (let i = 0; i < list.length; i++) {
      const item = list[i]
      if (typeof item !== 'object' && typeof item !== 'bigint') continue
      const printable = this.any(item)
      if (printable === item) continue
      copy ??= list.slice()
      copy[i] = printable
    }
    return copy ?? list
  }

  #plain(value: Fields): unknown {
    if (typeof value.toJSON === 'function') return this.#instance(value)
    let copy: Fields | undefined
    for (const key of Object.keys(value)) {
      const item = value[key]
      if (typeof item !== 'object' && typeof item !== 'bigint') continue
      const printable = this.any(item)
      if (printable === item) continue
      copy ??= { ...value }
      put(copy, key, printable)
    }
    return copy ?? value
  }

  #message(message: Fields, name: string): unknown {
    const printed: Fields = {
      content: this.any(message.content),
      additional_kwargs: this.any(message.additional_kwargs),
      response_metadata: this.any(message.response_metadata),
      type: this.#chunks && name.endsWith('Chunk') ? name : message.type,
      name: message.name,
      id: message.id,
    }
    for (const key of Object.keys(message)) if (!APART.has(key)) put(printed, key, this.any(message[key]))
    const kwargs = message.lc_kwargs as Fields | undefined
    // Constructor arguments that the class did not turn into properties, such as `example`.
    for (const key of Object.keys(kwargs ?? {})) if (!(key in message)) put(printed, key, this.any(kwargs?.[key]))
    return printed
  }

  #instance(value: Fields): unknown {
    if (value instanceof Plain) return value.value
    if (types.isDate(value)) return Number.isNaN(value.getTime()) ? null : value.toISOString()
    const kind = value.lg_name
    if (kind === 'Send') return this.#fields({ node: value.node, args: value.args, timeout: value.timeout })
    if (kind === 'Command')
      return this.#fields({ graph: value.graph, update: value.update, resume: value.resume, goto: value.goto })
    if (typeof value.toJSON === 'function' && !ArrayBuffer.isView(value)) {
      const json: unknown = value.toJSON()
      if (json !== value) return this.any(json)
    }
    const native = this.#native(value)
    return native === undefined ? this.#fields(value) : native
  }

  #fields(value: Fields): Fields {
    const copy: Fields = {}
    for (const key of Object.keys(value)) {
      const item = value[key]
      // A function called toJSON must not reach JSON.stringify.
      if (typeof item !== 'function') put(copy, key, this.any(item))
    }
    return copy
  }

  #native(value: object): unknown {
    if (types.isMap(value)) return this.#map(value)
    if (types.isSet(value)) return Array.from(value, (item) => this.any(item))
    if (types.isRegExp(value)) return String(value)
    if (types.isNativeError(value)) return { name: String(value.name), message: String(value.message) }
    if (types.isArrayBuffer(value)) return Buffer.from(value).toString('base64')
    if (types.isUint8Array(value) || types.isUint8ClampedArray(value) || types.isDataView(value))
      return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')
    if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, (item) => this.any(item))
    if (types.isBoxedPrimitive(value)) return this.any(value.valueOf())
    return undefined
  }

  #map(map: Map<unknown, unknown>): unknown {
    const named = [...map.keys()].every((key) => typeof key === 'string')
    if (!named) return Array.from(map, ([key, item]) => [this.any(key), this.any(item)])
    const copy: Fields = {}
    for (const [key, item] of map) put(copy, key as string, this.any(item))
    return copy
  }
}

const APART = new Set([
  ...['content', 'additional_kwargs', 'response_metadata', 'type', 'name', 'id'],
  ...['lc_kwargs', 'lc_serializable', 'lc_namespace', 'lc_direct_tool_output'],
])
