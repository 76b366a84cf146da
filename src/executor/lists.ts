// What a saver remembers of the lists it has stored, so that a list that only grew is stored as what was added. In charge
// of proving that nothing before has changed, also not in place; where it cannot prove that, the list is stored whole.

import { types } from 'node:util'
import { messageName } from './codec-write.ts'
import type { Chain } from './stored.ts'

/** A list as it is stored under a version. */
export interface StoredList {
  version: string
  chain: Chain
  items: Kept[]
}

/** How a list is to be stored: whole, or as what was added to a version that is stored already. */
export interface Growth {
  base: StoredList
  added: unknown[]
}

/** Remembers lists by place (thread and namespace) and channel. One per saver. */
export interface ListMemory {
  /** What was added to the remembered list; undefined where it is not known to have only grown. */
  growth(place: string, channel: string, value: unknown): Growth | undefined
  /** Remembers a list, as stored; `base` is what it grew from. Forgets the channel where it cannot. */
  remember(place: string, channel: string, value: unknown, stored: Omit<StoredList, 'items'>, growth?: Growth): void
  clear(): void
}

/** Makes an empty memory. */
export function createListMemory(): ListMemory {
  const lists = new Map<string, StoredList>()
  const key = (place: string, channel: string) => `${place}\n${channel}`
  return {
    growth(place, channel, value) {
      const base = lists.get(key(place, channel))
      if (base === undefined || !isList(value) || value.length < base.items.length) return undefined
      if (!base.items.every((item, i) => isSame(value[i], item))) return undefined
      return { base, added: value.slice(base.items.length) }
    },
    remember(place, channel, value, stored, growth) {
      const added = isList(value) ? kept(growth?.added ?? value) : undefined
      if (added === undefined) lists.delete(key(place, channel))
      else lists.set(key(place, channel), { ...stored, items: [...(growth?.base.items ?? []), ...added] })
    },
    clear: () => lists.clear(),
  }
}

/** A list that is stored as a list: JSON would print all of it and nothing else. */
export const isList = (value: unknown): value is unknown[] =>
  Array.isArray(value) && Object.getPrototypeOf(value) === Array.prototype && Object.keys(value).length === value.length

const [COMMA, CLOSE] = [Buffer.from(','), Buffer.from(']')]

/** One list of encoded lists, as it would be encoded itself. */
export function joinLists(parts: readonly Uint8Array[]): Uint8Array {
  const [first, ...added] = parts
  if (first === undefined || added.length === 0) return first ?? new Uint8Array()
  const pieces: Uint8Array[] = [first.subarray(0, -1)]
  let isEmpty = first.length === 2
  for (const part of added) {
    if (part.length === 2) continue
    if (!isEmpty) pieces.push(COMMA)
    pieces.push(part.subarray(1, -1))
    isEmpty = false
  }
  return Buffer.concat([...pieces, CLOSE])
}

/** A value as it was, for comparing: what is equal to it would be stored as the same bytes. */
type Kept = string | number | bigint | boolean | null | undefined | KeptFields | KeptItems | KeptDate

class KeptFields {
  readonly prototype: unknown
  readonly keys: readonly string[]
  readonly values: readonly Kept[]
  constructor(value: object, depth: number) {
    this.prototype = Object.getPrototypeOf(value)
    this.keys = Object.keys(value)
    this.values = this.keys.map((name) => keep((value as Record<string, unknown>)[name], depth))
  }
}

class KeptItems {
  readonly values: readonly Kept[]
  constructor(value: unknown[], depth: number) {
    this.values = value.map((item) => keep(item, depth))
  }
}

class KeptDate {
  readonly time: number
  constructor(value: Date) {
    this.time = value.getTime()
  }
}

const MAX_DEPTH = 100
const UNPROVABLE = Symbol('unprovable')

function kept(items: readonly unknown[]): Kept[] | undefined {
  try {
    return items.map((item) => keep(item, 0))
  } catch (thrown) {
    if (thrown === UNPROVABLE) return undefined
    throw thrown
  }
}

function keep(value: unknown, depth: number): Kept {
  if (typeof value === 'function' || typeof value === 'symbol' || depth > MAX_DEPTH) throw UNPROVABLE
  if (typeof value !== 'object' || value === null) return value as Kept
  if (isList(value)) return new KeptItems(value, depth + 1)
  if (types.isDate(value)) return new KeptDate(value)
  const prototype: unknown = Object.getPrototypeOf(value)
  const isPlain = (prototype === Object.prototype || prototype === null) && !('toJSON' in value)
  // Anything else (a map, an instance of a class) may change where its properties do not show it.
  if (!isPlain && messageName(value) === undefined) throw UNPROVABLE
  return new KeptFields(value, depth + 1)
}

function isSame(value: unknown, was: Kept): boolean {
  if (typeof was !== 'object' || was === null) return Object.is(value, was)
  if (typeof value !== 'object' || value === null) return false
  if (was instanceof KeptDate) return types.isDate(value) && Object.is(value.getTime(), was.time)
  if (was instanceof KeptItems) {
    return isList(value) && value.length === was.values.length && was.values.every((item, i) => isSame(value[i], item))
  }
  const keys = Object.keys(value)
  if (Object.getPrototypeOf(value) !== was.prototype || keys.length !== was.keys.length) return false
  for (let i = 0; i < keys.length; i++) {
    const name = was.keys[i] as string
    if (keys[i] !== name || !isSame((value as Record<string, unknown>)[name], was.values[i])) return false
  }
  return true
}
