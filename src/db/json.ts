// JSON that Postgres can hold. In charge of carrying NUL and lone surrogates, which jsonb refuses (22P05, 22P02), through
// text, json and jsonb reversibly; must be the only way a JavaScript value becomes JSON in a statement.

import type { Text } from '../executor/protocol.ts'
import { bytesOf, joined, type Pieces, textOf } from '../pieces.ts'

// U+E000 is a private-use character: it starts an escape, and stands for itself as "\uE000" + "e".
const MARK = '\uE000'
const NEEDS_ESCAPE = /\\u0000|\\u[dD][89a-fA-F]|\\u[eE]000|\uE000/
const MAY_NEED_ESCAPE = ['\\u', MARK].map((text) => Buffer.from(text))
const BACKSLASH = 0x5c

/** A value as JSON text for a json or jsonb column; `undefined` becomes SQL null. */
export function json(value: unknown): string | null {
  if (value === undefined) return null
  const text = JSON.stringify(value)
  return text === undefined ? null : storable(text)
}

/** JSON text as Postgres can store it in json and jsonb. */
export function storable(text: string): string {
  if (!NEEDS_ESCAPE.test(text)) return text
  return JSON.stringify(mapStrings(JSON.parse(text), marked))
}

/** The same as bytes in UTF-8; what is given as such is not read unless it may need an escape. */
export function storableBytes(text: Text): Pieces {
  const pieces = bytesOf(text)
  return pieces.some(mayNeedEscape) ? bytesOf(storable(textOf(pieces))) : pieces
}

// An escape may be cut behind its backslash.
const mayNeedEscape = (piece: Uint8Array): boolean =>
  piece.at(-1) === BACKSLASH || MAY_NEED_ESCAPE.some((part) => joined([piece]).includes(part))

/** Parses what `json` or `storable` made. */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text)
  return text.includes(MARK) || text.includes('\\ue000') ? mapStrings(value, unmarked) : value
}

const marked = (text: string): string => {
  let out = ''
  for (const char of text) {
    const code = char.codePointAt(0) as number
    if (char === MARK) out += `${MARK}e`
    else if (code === 0) out += `${MARK}0`
    else if (code >= 0xd800 && code <= 0xdfff) out += `${MARK}s${code.toString(16)}`
    else out += char
  }
  return out
}

const unmarked = (text: string): string =>
  text.replace(/\uE000(e|0|s([0-9a-f]{4}))/g, (_, kind: string, hex: string | undefined) =>
    kind === 'e' ? MARK : kind === '0' ? '\0' : String.fromCharCode(Number.parseInt(hex as string, 16)),
  )

function mapStrings(value: unknown, map: (text: string) => string): unknown {
  if (typeof value === 'string') return map(value)
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [map(key), mapStrings(item, map)]))
}
