// The writing half of the codec: a value becomes one that JSON holds without loss. A tagged value is {"$heddle": kind, v};
// an object that has this key itself is written as its entries, so no user data can be taken for a tag. Copies only what
// needs a tag. Mapped, not kept: a class instance becomes what its toJSON() gives or else its own enumerable properties; an
// Error keeps name and message; symbol keys, a null prototype and extra properties of lists are dropped. Everything else
// is refused with its place; must never store something else in silence.

import { types } from 'node:util'
import { messageOf } from '../errors.ts'

/** The key that marks a tagged value. */
export const TAG = '$heddle'
// Half of what the default stack bears on the way in and on the way back, so that what was stored can be read.
const MAX_DEPTH = 1_000

/** A value that cannot be stored, or bytes that cannot be read: the message names the channel and the path. */
export class CodecError extends Error {
  override readonly name = 'CodecError'
}

/** What stands for the first items of a list, and how many; undefined where they stand for themselves. */
export type MarkBeginning = (list: unknown[]) => { mark: string; length: number } | undefined

/** A value ready for JSON.stringify: the same value where nothing in it needs a tag. Throws `CodecError`. */
export function flatten(value: unknown, where: string, marked?: MarkBeginning): unknown {
  const walk = new Walk(where, marked)
  try {
    return walk.any(value)
  } catch (error) {
    if (error instanceof CodecError) throw error
    throw walk.refuse(error instanceof RangeError ? 'is nested too deeply' : `could not be read: ${messageOf(error)}`)
  }
}

type Fields = Record<string, unknown>
const tag = (kind: string, v: unknown) => ({ [TAG]: kind, v })

/** Sets an own property, also where the key is `__proto__`. */
export function put(target: object, key: string | number, value: unknown): void {
  if (key === '__proto__')
    Object.defineProperty(target, key, { value, enumerable: true, writable: true, configurable: true })
  else (target as Fields)[key] = value
}

// One per encode. A class because the walk is hot: path and ancestors are shared by all its methods.
class Walk {
  readonly #where: string
  readonly #marked: MarkBeginning | undefined
  readonly #ancestors: object[] = []
  readonly #path: (string | number)[] = []

  constructor(where: string, marked: MarkBeginning | undefined) {
    this.#where = where
    this.#marked = marked
  }

  any(value: unknown): unknown {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return value
      case 'number':
        if (value - value === 0 && (value !== 0 || 1 / value > 0)) return value
        return tag('number', Object.is(value, -0) ? '-0' : String(value))
      case 'undefined':
        return { [TAG]: 'undefined' }
      case 'bigint':
        return tag('bigint', String(value))
      case 'object':
        return value === null ? null : this.#object(value)
      default:
        throw this.refuse(`is a ${typeof value}`)
    }
  }

  refuse(reason: string): CodecError {
    return new CodecError(`The value of ${this.#where}${pathText(this.#path)} cannot be stored: it ${reason}.`)
  }

  #object(value: object): unknown {
    if (this.#ancestors.includes(value)) throw this.refuse('contains itself')
    if (this.#ancestors.length >= MAX_DEPTH) throw this.refuse('is nested too deeply')
    this.#ancestors.push(value)
    const flat = this.#byShape(value)
    this.#ancestors.pop()
    return flat
  }

  #byShape(value: object): unknown {
    if (Array.isArray(value)) return this.#list(value)
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype === Object.prototype || prototype === null) return this.#plain(value as Fields)
    const name = messageName(value)
    return name === undefined ? this.#instance(value) : this.#message(value as Fields, name)
  }

  #at(key: string | number, value: unknown): unknown {
    this.#path.push(key)
    const flat = this.any(value)
    this.#path.pop()
    return flat
  }

  #list(list: unknown[]): unknown {
    const begun = this.#marked?.(list)
    if (begun) return [begun.mark, ...list.slice(begun.length).map((item, i) => this.#at(begun.length + i, item))]
    // JSON.stringify would call a toJSON of the list itself.
    let copy = typeof (list as { toJSON?: unknown }).toJSON === 'function' ? Array.from(list) : undefined
    for (let i = 0; i < list.length; i++) {
      const item = list[i]
      if (typeof item === 'string') continue
      if (item === undefined && !(i in list)) return this.#sparse(list)
      const flat = this.#at(i, item)
      if (flat === item) continue
      copy ??= list.slice()
      copy[i] = flat
    }
    return copy ?? list
  }

  #sparse(list: unknown[]): unknown {
    const kept = Object.keys(list).filter((key) => Number(key) < list.length)
    return tag('array', [list.length, kept.map((key) => [Number(key), this.#at(Number(key), list[Number(key)])])])
  }

  #plain(value: Fields): unknown {
    if (typeof value.toJSON === 'function') return this.#instance(value)
    if (Object.hasOwn(value, TAG))
      return tag(
        'object',
        Object.entries(value).map(([key, item]) => [key, this.#at(key, item)]),
      )
    let copy: Fields | undefined
    for (const key of Object.keys(value)) {
      const item = value[key]
      if (typeof item === 'string') continue
      const flat = this.#at(key, item)
      if (flat === item) continue
      copy ??= { ...value }
      put(copy, key, flat)
    }
    return copy ?? value
  }

  #fields(value: Fields, keep: (key: string, item: unknown) => boolean): object {
    const copy: Fields = {}
    for (const key of Object.keys(value)) {
      const item = value[key]
      if (keep(key, item)) put(copy, key, typeof item === 'string' ? item : this.#at(key, item))
    }
    return Object.hasOwn(copy, TAG) ? tag('object', Object.entries(copy)) : copy
  }

  #message(message: Fields, name: string): unknown {
    const v = this.#fields(message, isMessageField)
    const kwargs = message.lc_kwargs as Fields | undefined
    if (typeof kwargs !== 'object' || kwargs === null) return tag(name, v)
    // Constructor arguments that the class did not turn into properties.
    const x = this.#fields(kwargs, (key, item) => !(key in message) && item !== undefined)
    return Object.keys(x).length > 0 ? { [TAG]: name, v, x } : tag(name, v)
  }

  #instance(value: object): unknown {
    const native = this.#native(value)
    if (native !== undefined) return native
    const fields = value as Fields
    const kind = fields.lg_name
    if (kind === 'Send' || kind === 'Command' || kind === 'DeltaSnapshot')
      return tag(
        kind,
        this.#fields(fields, (key, item) => key !== 'lg_name' && key !== 'lc_direct_tool_output' && item !== undefined),
      )
    if (
      value.constructor?.name === 'Document' &&
      typeof fields.pageContent === 'string' &&
      typeof fields.metadata === 'object'
    )
      return tag(
        'Document',
        this.#fields(fields, (_, item) => item !== undefined),
      )
    if (typeof fields.toJSON === 'function') {
      const json: unknown = fields.toJSON()
      if (json !== value) return this.any(json)
    } else if (Object.prototype.toString.call(value) !== '[object Object]') throw this.refuse(`is a ${nameOf(value)}`)
    return this.#fields(fields, () => true)
  }

  #native(value: object): unknown {
    if (types.isDate(value)) return tag('Date', Number.isNaN(value.getTime()) ? null : value.getTime())
    if (types.isMap(value))
      return tag(
        'Map',
        Array.from(value, ([key, item], i) => [this.#at(i, key), this.#at(typeof key === 'string' ? key : i, item)]),
      )
    if (types.isSet(value))
      return tag(
        'Set',
        Array.from(value, (item, i) => this.#at(i, item)),
      )
    if (types.isRegExp(value)) return tag('RegExp', [value.source, value.flags])
    if (types.isNativeError(value)) return tag('Error', [String(value.name), String(value.message)])
    if (Buffer.isBuffer(value)) return tag('Buffer', value.toString('base64'))
    if (ArrayBuffer.isView(value)) {
      const kind = viewName(value)
      if (!VIEWS.has(kind)) throw this.refuse(`is a ${kind}`)
      return tag(kind, base64(value.buffer, value.byteOffset, value.byteLength))
    }
    if (types.isArrayBuffer(value)) return tag('ArrayBuffer', base64(value, 0, value.byteLength))
    if (types.isBoxedPrimitive(value)) return this.any(value.valueOf())
    return undefined
  }
}

const base64 = (buffer: ArrayBufferLike, offset: number, length: number): string =>
  Buffer.from(buffer, offset, length).toString('base64')

/** The views of bytes on the list; what another Node has beside them is refused, since this one could not read it. */
export const VIEWS: ReadonlySet<string> = new Set([
  'DataView',
  'Int8Array',
  'Uint8Array',
  'Uint8ClampedArray',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
  'Float32Array',
  'Float64Array',
  'BigInt64Array',
  'BigUint64Array',
])

const typedArrayName = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag)
  ?.get as (this: unknown) => string | undefined
// What it is, also of a subclass, and whatever it says of itself.
const viewName = (view: ArrayBufferView): string => typedArrayName.call(view) ?? 'DataView'

// "Promise", "Headers" … for what is refused.
const nameOf = (value: object): string => Object.prototype.toString.call(value).slice(8, -1)

const NOT_STORED = new Set(['lc_kwargs', 'lc_serializable', 'lc_namespace', 'lc_direct_tool_output', 'type'])
// What every message class sets by itself when it is absent.
const DEFAULTED = new Set([
  'additional_kwargs',
  'response_metadata',
  'tool_calls',
  'invalid_tool_calls',
  'tool_call_chunks',
])

const isMessageField = (key: string, item: unknown): boolean =>
  item !== undefined && !NOT_STORED.has(key) && !(DEFAULTED.has(key) && isEmpty(item))

function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0
  if (typeof value !== 'object' || value === null) return false
  return Object.keys(value).length === 0
}

const KINDS = ['AI', 'Human', 'System', 'Tool', 'Chat', 'Function'] as const
/** The message classes on the list. A subclass is stored as the class on the list that it extends. */
export const MESSAGE_CLASSES: readonly string[] = [
  ...KINDS.flatMap((kind) => [`${kind}Message`, `${kind}MessageChunk`]),
  'RemoveMessage',
]
const known = new Set(MESSAGE_CLASSES)

interface MessageLike {
  lc_serializable?: unknown
  lc_namespace?: unknown
  type?: unknown
}

/** The class on the list that an object is an instance of, by its marks and not by identity: a project may hold several
 *  copies of the packages. Ordinary objects are never messages here. */
export function messageName(value: object): string | undefined {
  const { lc_serializable, lc_namespace } = value as MessageLike
  if (lc_serializable !== true || !Array.isArray(lc_namespace) || lc_namespace[1] !== 'messages') return undefined
  for (let at: unknown = value.constructor; typeof at === 'function'; at = Object.getPrototypeOf(at)) {
    // RemoveMessage has no lc_name of its own; others may be renamed by a bundler and do.
    const { name, lc_name } = at as { name: string; lc_name?: () => unknown }
    if (known.has(name)) return name
    const alias = typeof lc_name === 'function' ? String(lc_name.call(at)) : ''
    if (known.has(alias)) return alias
  }
  return (value as MessageLike).type === 'remove' ? 'RemoveMessage' : undefined
}

function pathText(path: readonly (string | number)[]): string {
  const shown = path.length > 24 ? [...path.slice(0, 12), '…', ...path.slice(-12)] : path
  const text = shown.map((key) =>
    typeof key === 'number' ? `[${key}]` : /^[\w$…]+$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`,
  )
  return text.length > 0 ? ` at ${text.join('').replace(/^\./, '')}` : ''
}
