// Bringing a thread of another database in. In charge of it coming in whole or not at all, of coming again without harm, and of
// never touching a thread that has gone on here; the formats are executor/stock.ts's and db/stock.ts's.

import { v5, validate } from 'uuid'
import * as checkpoints from '../db/checkpoints.ts'
import type { Db } from '../db/db.ts'
import * as imports from '../db/imports.ts'
import { all } from '../db/sql.ts'
import * as state from '../db/state.ts'
import type { StockDatabase } from '../db/stock.ts'
import * as threads from '../db/threads.ts'
import { ApiError } from '../errors.ts'
import type { Executor, Storage } from '../executor/executor.ts'
import { type createStockWriters, versionOf } from '../executor/stock.ts'
import { createStorage } from './storage.ts'

/** Whose the threads are to be. */
export interface Owner {
  graph_id: string
  assistant_id: string
}

export interface ImportDeps {
  db: Db
  executor: Pick<Executor, 'call'>
  /** What the executor reads from while a thread is brought in. */
  lend(storage: Storage): void
  writers: Awaited<ReturnType<typeof createStockWriters>>
  /** Undefined where nobody said whose a thread with this metadata is. */
  ownerOf(metadata: Record<string, unknown>): Owner | undefined
  /** Everything is done but the commit. */
  dryRun: boolean
}

/** What became of a thread. */
export type Imported =
  | { kind: 'imported'; checkpoints: number; bytes: number }
  | { kind: 'unchanged' }
  | { kind: 'left_out'; reason: string }

// Ids there are free text, here they are uuids.
const NAMESPACE = 'b3f0c1de-5f0a-4d7c-9a53-1c2f60a1d6e4'
const idOf = (threadId: string): string => (validate(threadId) ? threadId.toLowerCase() : v5(threadId, NAMESPACE))

/** Says under which key of a thread's metadata the id stands that it had. */
const ORIGIN = 'imported_thread_id'

/** Brings a thread in, or what it has got since it was. Never rejects for what is wrong with the thread. */
export async function importThread(deps: ImportDeps, stock: StockDatabase, threadId: string): Promise<Imported> {
  const undo = new Error('a dry run')
  let outcome: Imported | undefined
  try {
    return await deps.db.tx(async (tx) => {
      outcome = await bring(deps, tx, stock, threadId)
      if (deps.dryRun) throw undo
      return outcome
    })
  } catch (error) {
    if (error === undo && outcome !== undefined) return outcome
    if (error instanceof ApiError && error.code === 'database_unavailable') throw error
    return { kind: 'left_out', reason: error instanceof Error ? error.message : String(error) }
  }
}

async function bring(deps: ImportDeps, tx: Db, stock: StockDatabase, from: string): Promise<Imported> {
  const thread_id = idOf(from)
  const there = await stock.ids(from)
  const known = new Set(await imports.checkpointIds(tx, thread_id))
  const present = await threads.find(tx, thread_id, all)
  if (present !== undefined && present.metadata[ORIGIN] !== from) {
    return { kind: 'left_out', reason: 'a thread with this id is here already, and did not come from there' }
  }
  const fresh = there.filter(({ checkpoint_ns, checkpoint_id }) => !known.has(`${checkpoint_ns}\n${checkpoint_id}`))
  if (there.length - fresh.length < known.size) {
    if (fresh.length === 0) return { kind: 'unchanged' }
    return { kind: 'left_out', reason: 'it has gone on here since it was imported, and there too' }
  }
  const newest = there.findLast(({ checkpoint_ns }) => checkpoint_ns === '')
  if (fresh.length === 0) return { kind: 'unchanged' }
  if (newest === undefined) return { kind: 'left_out', reason: 'it has no checkpoint of its own, only of subgraphs' }
  const last = await stock.checkpoint(from, newest.checkpoint_ns, newest.checkpoint_id)
  const owner = deps.ownerOf(last?.metadata ?? {})
  if (owner === undefined) return { kind: 'left_out', reason: 'nobody says which graph it is of: give --assistant' }
  const metadata = { ...owner, [ORIGIN]: from }
  if (present === undefined) await threads.create(tx, { thread_id, metadata }, 'raise', all)

  let bytes = 0
  const writer = deps.writers({
    put: async (put) => {
      for (const { blob } of put.values) bytes += blob.bytes.length
      await checkpoints.store(tx, { puts: [put], writes: [], run_id: null })
    },
    writes: (writes) => checkpoints.store(tx, { puts: [], writes: [writes], run_id: null }),
  })
  const stored = new Set(await imports.versions(tx, thread_id))
  const times: string[] = []
  for (const { checkpoint_ns, checkpoint_id } of fresh) {
    const record = await stock.checkpoint(from, checkpoint_ns, checkpoint_id)
    if (record === undefined) continue
    const all = (record.checkpoint.channel_versions ?? {}) as Record<string, unknown>
    const wanted: Record<string, string> = {}
    for (const [channel, version] of Object.entries(all)) {
      const key = `${checkpoint_ns}\n${channel}\n${versionOf(version)}`
      if (!stored.has(key)) wanted[channel] = String(version)
      stored.add(key)
    }
    const values = await stock.values(from, checkpoint_ns, wanted)
    await writer.put({ ...record, thread_id, values })
    const writes = await stock.writes(from, checkpoint_ns, checkpoint_id)
    await writer.writes({ thread_id, checkpoint_ns, checkpoint_id }, writes)
    if (checkpoint_ns === '' && typeof record.checkpoint.ts === 'string') times.push(record.checkpoint.ts)
  }
  await settle(deps, tx, thread_id, owner.graph_id)
  await imports.date(tx, thread_id, present === undefined ? times[0] : undefined, times.at(-1))
  return { kind: 'imported', checkpoints: fresh.length, bytes }
}

/** Reading a state asks the graph's memory for nothing. */
const noStore = {
  batch: async (): Promise<never> => {
    throw new ApiError('not_supported', 'The store cannot be used while threads are imported.')
  },
}

/** Gives the thread the values, status and interrupts that its graph reads from its latest checkpoint. */
async function settle(deps: ImportDeps, tx: Db, thread_id: string, graph_id: string): Promise<void> {
  deps.lend(createStorage({ db: tx, store: noStore, flushed: async () => {} }))
  const read = await deps.executor.call('state.get', { graph_id, thread_id, config: {}, subgraphs: false })
  const now = JSON.parse(read?.text ?? '{}') as {
    values?: unknown
    next?: string[]
    tasks?: { id: string; name: string; interrupts: unknown[]; result: unknown }[]
  }
  const next = now.next ?? []
  const asking = (now.tasks ?? []).filter(
    ({ name, interrupts, result }) => interrupts.length > 0 && result === null && next.includes(name),
  )
  await state.settle(tx, thread_id, {
    values: JSON.stringify(now.values ?? null),
    next,
    interrupts: Object.fromEntries(asking.map(({ id, interrupts }) => [id, interrupts])),
    checkpoint_id: null,
  })
}
