// What a saver remembers of the lists it has stored and read, so that what is in them need not be stored again. In charge of
// proving that nothing of a list has changed, also not in place; where it cannot prove that, it knows nothing of the list.

import { types } from 'node:util'
import { messageName } from './codec-write.ts'
import type { Chain } from './stored.ts'

/** A namespace of a thread. */
export interface Place {
  thread_id: string
  checkpoint_ns: string
}

/** A list as it is stored under a version of its channel. */
export interface StoredList {
  checkpoint_ns: string
  channel: string
  version: string
  chain: Chain
  length: number
  /** What all of it takes, encoded. */
  bytes: number
}

/** Remembers the last list of each channel of each namespace. One per saver. */
export interface ListMemory {
  /** The channel's list, if this one is it with something added. */
  grown(place: Place, channel: string, value: readonly unknown[]): StoredList | undefined
  /** The longest list of these namespaces that this one begins with, if that is worth naming. */
  beginning(threadId: string, namespaces: readonly string[], value: unknown[]): StoredList | undefined
  /** Whether there is any list that is worth naming. */
  hasBeginnings(): boolean
  /** Remembers a list; `bytes` are those of what stands behind the one it begins with. Forgets the channel where it cannot. */
  remember(place: Place, channel: string, value: unknown[], stored: JustStored, begun?: StoredList): void
  clear(): void
}

type JustStored = Pick<StoredList, 'version' | 'chain' | 'bytes'>

interface Remembered extends StoredList {
  items: readonly Kept[]
}

/** A beginning of fewer bytes is stored again: naming it would take half of that. */
const MIN_BEGINNING = 256

/** Of how many namespaces lists are remembered, those that were looked at last: a run may call a subgraph thousands of times. */
const MAX_PLACES = 100

/** Makes an empty memory. */
export function createListMemory(): ListMemory {
  let hasBeginnings = false
  const places = new Map<string, Map<string, Remembered>>()
  const listsAt = (threadId: string, namespace: string): Map<string, Remembered> | undefined => {
    const key = `${threadId}\n${namespace}`
    const lists = places.get(key)
    if (lists && places.delete(key)) places.set(key, lists)
    return lists
  }
  const newListsAt = (threadId: string, namespace: string): Map<string, Remembered> => {
    const [oldest] = places.keys()
    if (places.size >= MAX_PLACES) places.delete(oldest as string)
    const lists = new Map<string, Remembered>()
    places.set(`${threadId}\n${namespace}`, lists)
    return lists
  }
  const begins = ({ items }: Remembered, value: readonly unknown[]) =>
    value.length >= items.length && items.every((item, i) => isSame(value[i], item))
  return {
    grown({ thread_id, checkpoint_ns }, channel, value) {
      const known = listsAt(thread_id, checkpoint_ns)?.get(channel)
      return known && begins(known, value) ? known : undefined
    },
    beginning(threadId, namespaces, value) {
      let best: Remembered | undefined
      for (const namespace of namespaces) {
        for (const known of listsAt(threadId, namespace)?.values() ?? []) {
          if (known.bytes < MIN_BEGINNING || known.length <= (best?.length ?? 0)) continue
          if (begins(known, value)) best = known
        }
      }
      return best && isList(value) ? best : undefined
    },
    hasBeginnings: () => hasBeginnings,
    remember({ thread_id, checkpoint_ns }, channel, value, stored, begun) {
      const before = begun && listsAt(thread_id, begun.checkpoint_ns)?.get(begun.channel)
      const lists = listsAt(thread_id, checkpoint_ns) ?? newListsAt(thread_id, checkpoint_ns)
      const added = kept(value.slice(before?.length ?? 0))
      if (added === undefined) return void lists.delete(channel)
      const items = before ? [...before.items, ...added] : added
      const bytes = stored.bytes + (before?.bytes ?? 0)
      hasBeginnings ||= bytes >= MIN_BEGINNING
      lists.set(channel, { ...stored, checkpoint_ns, channel, length: items.length, bytes, items })
    },
    clear() {
      places.clear()
      hasBeginnings = false
    },
  }
}

/** A list that is stored as a list: JSON would print all of it and nothing else. */
export const isList = (value: unknown): value is unknown[] =>
  Array.isArray(value) && Object.getPrototypeOf(value) === Array.prototype && Object.keys(value).length === value.length

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
