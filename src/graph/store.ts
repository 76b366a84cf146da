// The store as requests and graphs use it: items in the database, their vectors made by the executor. In charge of the
// configured defaults, of embedding each text once, and of refusing what needs an index where there is none.

import type { Db } from '../db/db.ts'
import type { VectorIndex } from '../db/semantic.ts'
import type { Sql } from '../db/sql.ts'
import * as items from '../db/store.ts'
import * as unembedded from '../db/unembedded.ts'
import * as vectors from '../db/vectors.ts'
import { ApiError } from '../errors.ts'
import type { Executor } from '../executor/executor.ts'
import type { EmbedSource, StoreOp } from '../executor/protocol.ts'
import { hashOf, type Path, readPath, textsAt } from './texts.ts'

/** How items are embedded. */
export interface StoreIndex {
  dims: number
  embed: EmbedSource
  /** Paths of the texts, for items that do not say. */
  fields: readonly string[]
}

/** How long items last. Times are minutes. */
export interface StoreTtl {
  /** Whether reading an item renews its time, where the read does not say. */
  refreshOnRead: boolean
  /** For items that do not say; absent: for ever. */
  defaultMinutes?: number
  /** How often what has expired is deleted; absent: as often as anything else is swept. */
  sweepMinutes?: number
}

export interface Store {
  /** Does operations in order and all or none; one result each. Throws `ApiError`. */
  batch(ops: readonly StoreOp[], visible: Sql): Promise<unknown[]>
  /** Embeds what the index has not seen yet, from the oldest item on; tells after each step how many items are done. */
  reindex(progress: (done: number) => void): Promise<void>
}

export interface StoreDeps {
  db: Db
  executor: Pick<Executor, 'call'>
  /** The index that the database has, with how it is made; absent where none is configured. */
  index?: StoreIndex & { table: VectorIndex }
  ttl?: StoreTtl
}

/** An item is a handful of texts: more would be a mistake, and cost a fortune. */
const MAX_TEXTS = 1_000
/** Items that are embedded anew in one step. */
const STEP = 100

export function createStore({ db, executor, index, ttl }: StoreDeps): Store {
  const paths = index?.fields.map((field) => pathOf(field)) ?? []

  const textsOf = (value: unknown, fields: false | readonly string[] | null | undefined): string[] => {
    if (fields === false) return []
    const texts = textsAt(value, fields ? fields.map(pathOf) : paths)
    if (texts.length <= MAX_TEXTS) return texts
    throw new ApiError(
      'validation_failed',
      `An item has at most ${MAX_TEXTS} texts to embed, and this one has ${texts.length}.`,
    )
  }

  async function embed(of: StoreIndex, documents: string[], queries: string[]) {
    if (documents.length + queries.length === 0) return []
    const { value: _, ...source } = of.embed
    const answer = await executor.call('embed', { source, dims: of.dims, documents, queries })
    return answer.vectors.map(encode)
  }

  /** The vectors of these texts by hash: those that the items have already, and the others made. */
  async function vectorsOf(of: NonNullable<typeof index>, indexed: readonly Texts[], queries: readonly string[]) {
    const texts = new Map(indexed.flatMap((item) => item.texts.map((text) => [hashOf(text), text] as const)))
    const had = texts.size > 0 ? await vectors.known(db, of.table, indexed, [...texts.keys()]) : []
    const made = new Map(had.map(({ hash, vector }) => [hash, vector]))
    const missing = [...texts].filter(([hash]) => !made.has(hash))
    const asked = [...new Set(queries)]
    const fresh = await embed(
      of,
      missing.map(([, text]) => text),
      asked,
    )
    missing.forEach(([hash], i) => void made.set(hash, fresh[i] as Uint8Array))
    return {
      documents: made,
      queries: new Map(asked.map((text, i) => [text, fresh[missing.length + i] as Uint8Array])),
    }
  }

  async function withVectors(ops: readonly StoreOp[]): Promise<items.IndexedOp[]> {
    if (!index) {
      for (const op of ops) refuseIndexed(op)
      return [...ops]
    }
    const puts = new Map(
      ops.flatMap((op) =>
        op.op === 'put' && op.value !== null
          ? [[op as StoreOp, { ...op, texts: textsOf(op.value, op.index) }] as const]
          : [],
      ),
    )
    const queries = ops.flatMap((op) => (op.op === 'search' && op.query ? [op.query] : []))
    const made = await vectorsOf(index, [...puts.values()], queries)
    return ops.map((op) => {
      if (op.op === 'put') return { ...op, vectors: pick(made.documents, puts.get(op)?.texts ?? []) }
      const vector = op.op === 'search' && op.query ? made.queries.get(op.query) : undefined
      return vector ? { ...op, vector } : op
    })
  }

  const withDefaults = (op: StoreOp): StoreOp => {
    if (op.op === 'put') return op.ttl === undefined ? { ...op, ttl: ttl?.defaultMinutes ?? null } : op
    if (op.op === 'namespaces' || op.refresh_ttl !== undefined) return op
    return { ...op, refresh_ttl: ttl?.refreshOnRead ?? true }
  }

  return {
    async batch(ops, visible) {
      // Before anything is paid for.
      for (const op of ops) items.check(op)
      return items.batch(db, await withVectors(ops.map(withDefaults)), visible, index?.table)
    },
    async reindex(progress) {
      if (!index) return
      let done = 0
      for (let after = 0; ; ) {
        const page = await unembedded.next(db, index.table, after, STEP)
        const last = page.at(-1)
        if (!last) return
        const indexed = page.map((item) => ({ ...item, texts: textsOf(item.value, item.index_fields) }))
        const made = await vectorsOf(index, indexed, [])
        const embedded = indexed.map((item) => ({ ...item, vectors: pick(made.documents, item.texts) }))
        await unembedded.embed(db, index.table, embedded)
        after = last.item_id
        done += page.length
        progress(done)
      }
    },
  }
}

interface Texts {
  namespace: string[]
  key: string
  texts: readonly string[]
}

const pick = (made: ReadonlyMap<string, Uint8Array>, texts: readonly string[]): vectors.TextVector[] =>
  texts.map((text) => {
    const hash = hashOf(text)
    return { hash, vector: made.get(hash) as Uint8Array }
  })

/** As the database takes it: see `TextVector`. */
function encode(vector: Float32Array): Uint8Array {
  const bytes = Buffer.alloc(4 + 4 * vector.length)
  bytes.writeUInt16BE(vector.length, 0)
  vector.forEach((number, i) => void bytes.writeFloatBE(number, 4 + 4 * i))
  return bytes
}

function pathOf(field: string): Path {
  const path = typeof field === 'string' ? readPath(field) : undefined
  if (path) return path
  throw new ApiError(
    'validation_failed',
    `index: ${JSON.stringify(field)} is no path: write it like "title" or "chapters[*].text".`,
  )
}

function refuseIndexed(op: StoreOp): void {
  const what =
    op.op === 'search' && op.query ? 'query' : op.op === 'put' && op.index && op.index.length > 0 ? 'index' : undefined
  if (what === undefined) return
  throw new ApiError(
    'not_supported',
    `${what}: needs a semantic index, and none is configured: add store.index to langgraph.json, or leave it out.`,
  )
}
