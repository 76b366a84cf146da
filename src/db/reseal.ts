// Encrypting again what is stored: under another thread's name when one is copied, under the first key when keys change or
// encryption begins. In charge of reading and writing every column that is encrypted, a batch of bounded size at a time.

import type { Blob } from '../executor/stored.ts'
import type { Db } from './db.ts'
import { json, parseJson } from './json.ts'
import {
  names,
  type Reader,
  type Seal,
  sealBlob,
  sealedKwargs,
  sealKwargs,
  sealText,
  sealValue,
  stragglerReader,
  strictReader,
} from './seal.ts'
import { and, join, type Sql, sql } from './sql.ts'

/** What a batch may hold, in rows and in bytes; one row comes whatever its size. */
const BATCH = { rows: 500, bytes: 8 * 1024 * 1024 }

/** A database that encrypts. */
export type SealedDb = Db & { readonly seal: Seal }

interface ThreadPart {
  thread_id: string
}
interface ValueRow extends ThreadPart, Blob {
  checkpoint_ns: string
  channel: string
  version: string
  chain: string | null
  base: string | null
  splices: string | null
}
interface WriteRow extends ThreadPart, Blob {
  checkpoint_ns: string
  checkpoint_id: string
  task_id: string
  idx: number
  channel: string
  source: string | null
  splices: string | null
  replaced_channel: string | null
  replaced_type: string | null
  replaced_bytes: Uint8Array | null
}

/** How the rows of a table are encrypted: where they are, what they weigh, and what to set on each. */
interface Table<R> {
  name: Sql
  key: readonly (keyof R & string)[]
  columns: Sql
  size: Sql
  /** What is to be set on a row; undefined where nothing is. `from` is the thread that the row was encrypted for. */
  set(db: Db, row: R, read: Reader, from: string): Sql | undefined
}

const values: Table<ValueRow> = {
  name: sql`checkpoint_values`,
  key: ['thread_id', 'checkpoint_ns', 'channel', 'version'],
  columns: sql`chain, base, splices, type, bytes`,
  size: sql`octet_length(bytes)`,
  set(db, row, read, from) {
    const plain = read.blob(row, names.value({ ...row, thread_id: from }, row))
    if (plain === undefined) return undefined
    const { type, bytes } = sealBlob(db, plain, names.value(row, row))
    return sql`type = ${type}, bytes = ${bytes}`
  },
}

const writes: Table<WriteRow> = {
  name: sql`checkpoint_writes`,
  key: ['thread_id', 'checkpoint_ns', 'checkpoint_id', 'task_id', 'idx'],
  columns: sql`channel, source, splices, type, bytes, replaced_channel, replaced_type, replaced_bytes`,
  size: sql`octet_length(bytes) + coalesce(octet_length(replaced_bytes), 0)`,
  set(db, row, read, from) {
    const again = (blob: Blob, of: Pick<WriteRow, 'idx' | 'channel' | 'source' | 'splices'>): Blob | undefined => {
      const plain = read.blob(blob, names.write({ ...row, thread_id: from }, of))
      return plain && sealBlob(db, plain, names.write(row, of))
    }
    const now = again(row, row)
    const { replaced_type: type, replaced_bytes: bytes } = row
    const replaced = { idx: row.idx, channel: row.replaced_channel ?? '', source: null, splices: null }
    const before = type !== null && bytes !== null ? again({ type, bytes }, replaced) : undefined
    return setting([
      now && sql`type = ${now.type}, bytes = ${now.bytes}`,
      before && sql`replaced_type = ${before.type}, replaced_bytes = ${before.bytes}`,
    ])
  },
}

const threads: Table<ThreadPart & { values: unknown; interrupts: unknown }> = {
  name: sql`threads`,
  key: ['thread_id'],
  columns: sql`"values", interrupts`,
  size: sql`coalesce(octet_length("values"::text), 0) + octet_length(interrupts::text)`,
  set(db, row, read, from) {
    const again = (column: 'values' | 'interrupts'): string | null | undefined => {
      const plain = read.value(row[column], names.thread(from, column))
      return plain === undefined ? undefined : json(sealValue(db, plain, names.thread(row.thread_id, column)))
    }
    const [state, interrupts] = [again('values'), again('interrupts')]
    return setting([
      state === undefined ? undefined : sql`"values" = ${state}::json`,
      interrupts === undefined ? undefined : sql`interrupts = ${interrupts}::json`,
    ])
  },
}

const runs: Table<ThreadPart & { run_id: string; kwargs: Record<string, unknown> }> = {
  name: sql`runs`,
  key: ['run_id'],
  columns: sql`thread_id, kwargs`,
  size: sql`octet_length(kwargs::text)`,
  set(db, row, read) {
    const plain = read.value(sealedKwargs(row.kwargs), names.kwargs(row))
    if (plain === undefined) return undefined
    return sql`kwargs = ${json(sealKwargs(db, plain as Record<string, unknown>, row))}::json`
  },
}

/** Bodies hold arguments and values as their rows did. */
const deliveries: Table<ThreadPart & { delivery_id: string; run_id: string; body: string }> = {
  name: sql`webhook_deliveries`,
  key: ['delivery_id'],
  columns: sql`thread_id, run_id, body`,
  size: sql`octet_length(body)`,
  set(db, row, read) {
    const body = parseJson(row.body) as { kwargs: Record<string, unknown>; values: unknown }
    const kwargs = read.value(sealedKwargs(body.kwargs), names.kwargs(row))
    const state = read.value(body.values, names.thread(row.thread_id, 'values'))
    if (kwargs === undefined && state === undefined) return undefined
    const again = {
      ...body,
      ...(kwargs !== undefined && { kwargs: sealKwargs(db, kwargs as Record<string, unknown>, row) }),
      ...(state !== undefined && { values: sealValue(db, state, names.thread(row.thread_id, 'values')) }),
    }
    return sql`body = ${json(again)}`
  },
}

const events: Table<ThreadPart & { run_id: string; first_seq: number; batch: string }> = {
  name: sql`events`,
  key: ['thread_id', 'first_seq'],
  columns: sql`run_id, batch`,
  size: sql`octet_length(batch)`,
  set(db, row, read) {
    const name = names.events(row.thread_id, row)
    const plain = read.text(row.batch, name)
    return plain === undefined ? undefined : sql`batch = ${sealText(db, plain, name)}`
  },
}

/** Encrypts what a thread has that was copied from another under its own name. */
export async function resealCopy(tx: Db, from: string, to: string): Promise<void> {
  const read = strictReader(tx)
  const mine = { where: sql`thread_id = ${to}::uuid`, from: () => from, told: () => {} }
  await reseal(tx, values, read, mine)
  await reseal(tx, writes, read, mine)
  await reseal(tx, threads, read, mine)
}

/** Encrypts everything that is not encrypted with the first key, a batch to a transaction; `told` hears how many rows of
 *  which table it was. What is written meanwhile stays; what was stopped half-way may be begun again. */
export async function resealAll(db: SealedDb, told: (table: string, rows: number) => void): Promise<void> {
  const read = stragglerReader(db)
  const every = (table: string) => ({
    where: sql`true`,
    from: ({ thread_id }: ThreadPart) => thread_id,
    told: (rows: number) => told(table, rows),
  })
  await reseal(db, values, read, every('checkpoint_values'))
  await reseal(db, writes, read, every('checkpoint_writes'))
  await reseal(db, threads, read, every('threads'))
  await reseal(db, runs, read, every('runs'))
  await reseal(db, events, read, every('events'))
  await reseal(db, deliveries, read, every('webhook_deliveries'))
}

async function reseal<R extends ThreadPart>(
  db: Db,
  table: Table<R>,
  read: Reader,
  which: { where: Sql; from: (row: R) => string; told: (rows: number) => void },
): Promise<void> {
  const named = table.key.map(column)
  const key = join(named)
  let last: R | undefined
  do {
    const { page, changed } = await db.tx((tx) => batch(tx, table, last))
    if (changed > 0) which.told(changed)
    last = page.at(-1)
  } while (last !== undefined)

  async function batch(tx: Db, { name, columns, size, set }: Table<R>, after: R | undefined) {
    const beyond = after && sql`(${key}) > (${join(table.key.map((part) => sql`${after[part]}`))})`
    const page = await tx.rows<R & { row_version: string }>(sql`select * from (
        select ${key}, ${columns}, xmin::text as row_version, sum(${size}) over (order by ${key}) - (${size}) as bytes_before
        from ${name} where ${and([which.where, beyond])} order by ${key} limit ${BATCH.rows}) as page
      where bytes_before < ${BATCH.bytes} order by ${key}`)
    let changed = 0
    for (const row of page) {
      const change = set(tx, row, read, which.from(row))
      if (change === undefined) continue
      // Who wrote it meanwhile has encrypted it.
      const same = sql`xmin = ${row.row_version}::xid`
      const one = and([...table.key.map((part) => sql`${column(part)} = ${row[part]}`), same])
      await tx.rows(sql`update ${name} set ${change} where ${one}`)
      changed++
    }
    return { page, changed }
  }
}

const setting = (parts: readonly (Sql | undefined)[]): Sql | undefined => {
  const present = parts.filter((part) => part !== undefined)
  return present.length > 0 ? join(present) : undefined
}

const COLUMNS: Readonly<Record<string, Sql>> = {
  thread_id: sql`thread_id`,
  checkpoint_ns: sql`checkpoint_ns`,
  checkpoint_id: sql`checkpoint_id`,
  channel: sql`channel`,
  version: sql`version`,
  task_id: sql`task_id`,
  idx: sql`idx`,
  run_id: sql`run_id`,
  first_seq: sql`first_seq`,
  delivery_id: sql`delivery_id`,
}
const column = (name: string): Sql => COLUMNS[name] as Sql
