// Strict JSON: what JSON.parse lets through and a database or a merge would trip over is refused here. One pass over the
// bytes and one over the value only say that something is wrong; a slow search then says where. Never changes a value.

import { placeOf } from '../contract/problem.ts'
import { ApiError } from '../errors.ts'

export const MAX_DEPTH = 200
const LONE_SURROGATE = /\p{Surrogate}/u

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const DOT = 0x2e
const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x30 && byte <= 0x39

/** What one pass over the bytes tells. Right for valid JSON; for anything else it ends, and JSON.parse will refuse it. */
interface Scan {
  deep: boolean
  keys: number
  /** There are \u escapes, so strings may hold what raw UTF-8 cannot. */
  escapes: boolean
  /** There is a number that may be unsafe or infinite. */
  numbers: boolean
}

function scan(bytes: Uint8Array): Scan {
  const found: Scan = { deep: false, keys: 0, escapes: false, numbers: false }
  const end = bytes.length
  let depth = 0
  let at = 0
  while (at < end) {
    const byte = bytes[at++] as number
    if (byte === QUOTE) {
      while (at < end) {
        const inner = bytes[at++]
        if (inner === QUOTE) break
        if (inner === BACKSLASH && bytes[at++] === 0x75) found.escapes = true
      }
    } else if (byte === COLON) found.keys++
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > MAX_DEPTH) return { ...found, deep: true }
    } else if (byte === 0x7d || byte === 0x5d) depth--
    else if (byte >= 0x30 && byte <= 0x39) {
      const start = at - 1
      while (isDigit(bytes[at])) at++
      const whole = at - start
      if (bytes[at] === DOT) {
        at++
        while (isDigit(bytes[at])) at++
        if (whole >= 300) found.numbers = true
      } else if (whole >= 16) found.numbers = true
      if (((bytes[at] as number) | 0x20) === 0x65) found.numbers ||= bigExponent(bytes, at + 1)
    }
  }
  return found
}

function bigExponent(bytes: Uint8Array, from: number): boolean {
  let at = from
  if (bytes[at] === 0x2d) return false
  if (bytes[at] === 0x2b) at++
  return isDigit(bytes[at]) && isDigit(bytes[at + 1]) && isDigit(bytes[at + 2])
}

/** The number of keys in a value; -1 where a key or string must not be there. */
function countKeys(value: object, strings: boolean): number {
  let keys = 0
  if (Array.isArray(value)) {
    for (const item of value) {
      if (typeof item === 'object' && item !== null) {
        const inner = countKeys(item, strings)
        if (inner < 0) return -1
        keys += inner
      } else if (strings && typeof item === 'string' && reasonOf(item)) return -1
    }
    return keys
  }
  for (const key in value) {
    keys++
    const item = (value as Record<string, unknown>)[key]
    if (key === '__proto__' || (strings && reasonOf(key))) return -1
    if (typeof item === 'object' && item !== null) {
      const inner = countKeys(item, strings)
      if (inner < 0) return -1
      keys += inner
    } else if (strings && typeof item === 'string' && reasonOf(item)) return -1
  }
  return keys
}

function reasonOf(text: string): string | undefined {
  if (text.includes('\0')) return 'must not contain the NUL character'
  if (LONE_SURROGATE.test(text)) return 'must not contain half of a surrogate pair'
  return undefined
}

/** Parses the bytes of a body. Throws `invalid_json` (400) and, naming the place, `validation_failed` (422). */
export function parseStrict(bytes: Uint8Array, text: string): unknown {
  const found = scan(bytes)
  if (found.deep) throw new ApiError('validation_failed', `body: must not be nested deeper than ${MAX_DEPTH} levels`)
  const value = parse(text)
  const nested = typeof value === 'object' && value !== null
  const bad = nested ? countKeys(value, found.escapes) !== found.keys : found.escapes
  if (bad || found.numbers) {
    const problem = locate(text)
    if (problem) throw new ApiError('validation_failed', problem)
  }
  return value
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    // the reason without the text around it, which may be a secret
    const { message } = error as Error
    const position = / at position (\d+)/.exec(message)?.[1]
    const where = message.startsWith('Unexpected end')
      ? ': it ends too early'
      : position && `: look at character ${position}`
    throw new ApiError('invalid_json', `The request body is not valid JSON${where ?? ''}.`)
  }
}

type Level = { keys: Set<string>; key: string } | { index: number }
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[{}[\],:]/g

/** Where in valid JSON something is that must not be there, and why. */
function locate(text: string): string | undefined {
  const levels: Level[] = []
  let expectsKey = false
  const place = (depth = levels.length) =>
    placeOf(
      'body',
      levels.slice(0, depth).map((level) => ('keys' in level ? level.key : level.index)),
    )
  for (const [token] of text.matchAll(TOKEN)) {
    const level = levels.at(-1)
    if (token === '{') {
      levels.push({ keys: new Set(), key: '' })
      expectsKey = true
    } else if (token === '[') {
      levels.push({ index: 0 })
      expectsKey = false
    } else if (token === '}' || token === ']') {
      levels.pop()
      expectsKey = false
    } else if (token === ',') {
      if (level && 'index' in level) level.index++
      else expectsKey = true
    } else if (token === ':') expectsKey = false
    else if (expectsKey && level && 'keys' in level) {
      const key: string = JSON.parse(token)
      const reason = reasonOf(key)
      if (reason) return `${place(levels.length - 1)}: has a key that ${reason}`
      const again = level.keys.has(key)
      level.keys.add(key)
      level.key = key
      if (key === '__proto__') return `${place()}: is not allowed as a key`
      if (again) return `${place()}: appears twice`
    } else {
      const reason = token.startsWith('"') ? reasonOf(JSON.parse(token)) : numberReason(token)
      if (reason) return `${place()}: ${reason}`
    }
  }
  return undefined
}

function numberReason(token: string): string | undefined {
  const value = Number(token)
  if (!Number.isFinite(value)) return 'is too large for a number'
  if (/^-?\d+$/.test(token) && !Number.isSafeInteger(value)) {
    return 'is a whole number beyond 2^53, which would lose digits: send it as a string'
  }
  return undefined
}
