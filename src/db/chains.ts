// Lists that grew, put together from their parts. In charge of the way from a version back to the one that is stored whole, also
// where that one begins with a list of another namespace.

import type { Blob, Chain, StoredSplice } from '../executor/stored.ts'
import { joinLists, spliced } from '../splices.ts'
import type { Db } from './db.ts'
import { names, openBlob } from './seal.ts'
import { splicesOf } from './splices.ts'
import { type Sql, sql } from './sql.ts'

/** The parts of a chain, up to the last that is asked for. */
export interface ChainRow {
  thread_id: string
  checkpoint_ns: string
  channel: string
  chain: string
  type: string
  /** The bytes of all parts. */
  bytes: Uint8Array
  /** A line for each part, in the order of its bytes, with version, base (empty for the first) and size. */
  parts: string
  /** Of the part that stands for itself. */
  splices: string | null
}

/** The rows of chains: `chains` gives thread, namespace, channel, chain and the last position that is asked for. */
export const chainRows = (chains: Sql): Sql => sql`
  select p.thread_id, p.checkpoint_ns, p.channel, p.chain, min(p.type) as type, string_agg(p.bytes, ''::bytea) as bytes,
    string_agg(p.version || E'\\t' || coalesce(p.base, '') || E'\\t' || octet_length(p.bytes), E'\\n') as parts,
    min(p.splices) as splices
  from (${chains}) as chains cross join lateral (
    select * from checkpoint_values q where q.thread_id = chains.thread_id and q.checkpoint_ns = chains.checkpoint_ns
      and q.channel = chains.channel and q.chain = chains.chain and q.position <= chains.position offset 0) p
  group by p.thread_id, p.checkpoint_ns, p.channel, p.chain`

/** Which list: that of a channel in a namespace. */
type Which = Pick<StoredSplice, 'checkpoint_ns' | 'channel' | 'version'>

interface Part {
  base: string | null
  chain: string
  size: number
  type: string
  bytes: Uint8Array
  splices: StoredSplice[]
}

/** Lists of a thread, as far as their parts are known. */
export interface Lists {
  learn(row: ChainRow): void
  /** A list as it is stored; throws where a part of it is not known. */
  list(which: Which): { blob: Blob; chain: Chain }
  /** A value or a write with the lists that begin in it. */
  whole(blob: Blob, splices: readonly StoredSplice[]): Blob
  /** Reads the lists that these begin with, and those that they begin with in turn; false where one is not there. */
  fetch(splices: readonly StoredSplice[]): Promise<boolean>
}

/** Knows none yet. */
export function createLists(db: Db, threadId: string): Lists {
  const channels = new Map<string, Map<string, Part>>()
  const partsOf = ({ checkpoint_ns, channel }: Omit<Which, 'version'>): Map<string, Part> => {
    const key = `${checkpoint_ns}\n${channel}`
    const known = channels.get(key) ?? new Map<string, Part>()
    channels.set(key, known)
    return known
  }

  const learn = (row: ChainRow) => {
    const parts = partsOf(row)
    let at = 0
    for (const line of row.parts.split('\n')) {
      const [version = '', before, length] = line.split('\t')
      const base = before || null
      const size = Number(length)
      const splices = base === null ? row.splices : null
      const stored = { type: row.type, bytes: row.bytes.subarray(at, at + size) }
      const { type, bytes } = openBlob(db, stored, names.value(row, { ...row, version, base, splices }))
      parts.set(version, { base, chain: row.chain, size, type, bytes, splices: splicesOf(splices) })
      at += size
    }
  }

  const list = (which: Which): { blob: Blob; chain: Chain } => {
    const parts = partsOf(which)
    const texts: Uint8Array[] = []
    const found = { position: -1, whole_bytes: 0, added_bytes: 0 }
    for (let version = which.version; ; ) {
      const part = parts.get(version)
      if (part === undefined) throw new Error(`A part of the list ${which.channel} (${version}) is missing.`)
      texts.push(spliced(part.bytes, part.splices, (splice) => list(splice).blob.bytes))
      found.position++
      found[part.base === null ? 'whole_bytes' : 'added_bytes'] += part.size
      if (part.base === null) {
        const blob = { type: part.type, bytes: joinLists(texts.reverse()) }
        return { blob, chain: { id: part.chain, ...found } }
      }
      version = part.base
    }
  }

  /** What of these lists, and of those that they begin with, is not known. */
  const unknown = (splices: readonly StoredSplice[]): Which[] => {
    const found: Which[] = []
    const seen = new Set<string>()
    const visit = ({ checkpoint_ns, channel, version }: Which) => {
      const parts = partsOf({ checkpoint_ns, channel })
      for (let next: string | null = version; next !== null; ) {
        const which = { checkpoint_ns, channel, version: next }
        const key = JSON.stringify(which)
        if (seen.has(key)) return
        seen.add(key)
        const part = parts.get(next)
        if (part === undefined) return void found.push(which)
        part.splices.forEach(visit)
        next = part.base
      }
    }
    splices.forEach(visit)
    return found
  }

  return {
    learn,
    list,
    whole: ({ type, bytes }, splices) => ({
      type,
      bytes: spliced(bytes, splices, (splice) => list(splice).blob.bytes),
    }),
    async fetch(splices) {
      for (let missing = unknown(splices); missing.length > 0; ) {
        const rows = await db.rows<ChainRow>(chainRows(chainsOf(threadId, missing)))
        rows.forEach(learn)
        if (!missing.every(({ version, ...of }) => partsOf(of).has(version))) return false
        missing = unknown(splices)
      }
      return true
    },
  }
}

const chainsOf = (threadId: string, which: readonly Which[]): Sql => sql`
  select v.thread_id, v.checkpoint_ns, v.channel, v.chain, max(v.position) as position
  from unnest(${which.map((w) => w.checkpoint_ns)}::text[], ${which.map((w) => w.channel)}::text[],
    ${which.map((w) => w.version)}::text[]) as w(ns, channel, version)
  cross join lateral (select * from checkpoint_values q where q.thread_id = ${threadId}::uuid and q.checkpoint_ns = w.ns
    and q.channel = w.channel and q.version = w.version offset 0) v
  where v.chain is not null
  group by v.thread_id, v.checkpoint_ns, v.channel, v.chain`
