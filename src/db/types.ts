// The common types of both drivers. In charge of making rows equal whichever driver read them.

import { parseJson } from './json.ts'

const OID = { int8: 20, json: 114, timestamptz: 1184, jsonb: 3802 } as const

/** int8 as a number; a value past 2^53 throws, because rounding an id or a sequence would corrupt silently. */
export function int8(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new Error(`int8 out of range: ${text}`)
  return value
}

/** timestamptz text as ISO 8601 with a zone, keeping microseconds where the session is in UTC. */
export function timestamptz(text: string): string {
  const utc = /^(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)\+00(?::00)?$/.exec(text)
  return utc ? `${utc[1]}T${utc[2]}+00:00` : new Date(text).toISOString().replace('Z', '+00:00')
}

/** Text parsers by type OID, for both drivers. */
export const parsers: Readonly<Record<number, (text: string) => unknown>> = {
  [OID.int8]: int8,
  [OID.json]: parseJson,
  [OID.jsonb]: parseJson,
  [OID.timestamptz]: timestamptz,
}
