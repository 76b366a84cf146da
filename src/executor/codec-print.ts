// Stored values as the API prints them, without making the messages in them. In charge of printing what wire.ts prints of the
// value that the codec would give; everything but messages is revived and printed by those two. Must never be used for
// values that graph code gets.

import { isVersion1, type Revivers, reviveTree } from './codec-read.ts'
import { MESSAGE_CLASSES, put, TAG } from './codec-write.ts'
import * as wire from './wire.ts'

type Fields = Record<string, unknown>

/** What a message of a class has before it is given anything. */
interface Shape {
  blank: Fields
  /** Its own properties, as printed. */
  own: Fields
  /** Constructor arguments that are no properties, as printed; absent where the class keeps none. */
  kwargs?: Fields
}

/** These come first. */
const FIRST = ['content', 'additional_kwargs', 'response_metadata', 'type', 'name', 'id']
const isFirst = new Set(FIRST)

/** Makes the function that turns a parsed stored value into plain data for printing. It changes what it is given. */
export function createPlainReader(revivers: Revivers): (tree: unknown) => unknown {
  const shapes = new Map<string, Shape>()
  const classes = new Set(MESSAGE_CLASSES)

  const shapeOf = (name: string): Shape => {
    const known = shapes.get(name)
    if (known) return known
    const blank = revivers.get(name)?.({} as never) as Fields
    const printed = Object.entries(wire.plain(blank) as Fields)
    const own = Object.fromEntries(printed.filter(([key]) => Object.hasOwn(blank, key) || isFirst.has(key)))
    const { lc_kwargs } = blank
    const kwargs = lc_kwargs ? (wire.plain(lc_kwargs) as Fields) : undefined
    const shape = { blank, own, ...(kwargs && { kwargs }) }
    shapes.set(name, shape)
    return shape
  }

  const walk = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) {
        const item = value[i]
        if (typeof item === 'object' && item !== null) value[i] = walk(item)
      }
      return value
    }
    const fields = value as Fields
    const kind = Object.hasOwn(fields, TAG) ? fields[TAG] : undefined
    if (kind !== undefined && !classes.has(kind as string)) return wire.plain(reviveTree(fields, revivers))
    for (const key of Object.keys(fields)) {
      const item = fields[key]
      if (typeof item !== 'object' || item === null) continue
      const plain = walk(item)
      if (plain !== item) put(fields, key, plain)
    }
    return kind === undefined ? fields : message(shapeOf(kind as string), fields.v as Fields, fields.x as Fields)
  }
  return walk
}

function message({ blank, own, kwargs }: Shape, v: Fields, x: Fields | undefined): Fields {
  const printed: Fields = {}
  for (const key of FIRST) printed[key] = Object.hasOwn(v, key) ? v[key] : own[key]
  for (const key of Object.keys(own))
    if (!isFirst.has(key)) put(printed, key, Object.hasOwn(v, key) ? v[key] : own[key])
  for (const key of Object.keys(v)) if (!Object.hasOwn(printed, key)) put(printed, key, v[key])
  if (kwargs === undefined) return printed
  const given = isVersion1(v) ? { contentBlocks: v.content, ...x } : x
  for (const [key, item] of [...Object.entries(kwargs), ...Object.entries(given ?? {})])
    if (!(key in blank) && !Object.hasOwn(v, key)) put(printed, key, item)
  return printed
}
