// Reading a database of @langchain/langgraph-checkpoint-postgres. In charge of its tables and of reading them in small parts;
// writes nothing there, and leaves what the bytes mean to the executor layer.

import { ConfigError } from '../errors.ts'
import { type Db, one } from './db.ts'
import { sql } from './sql.ts'

/** A thread as it is there: its id is free text. */
export interface StockThread {
  thread_id: string
  checkpoints: number
}

/** A checkpoint as it is there, without its values. */
export interface StockCheckpoint {
  checkpoint_ns: string
  checkpoint_id: string
  parent_checkpoint_id: string | null
  checkpoint: Record<string, unknown>
  metadata: Record<string, unknown>
}

/** A value or a write as it is there. `blob` is null for a channel without a value. */
export interface StockValue {
  channel: string
  version: string
  type: string
  blob: Uint8Array | null
}
export interface StockWrite {
  task_id: string
  idx: number
  channel: string
  type: string | null
  blob: Uint8Array
}

/** What is read of the tables in one schema, at one moment. */
export interface StockDatabase {
  /** Threads whose ids come after `after`, in order. */
  threads(after: string | undefined, limit: number): Promise<StockThread[]>
  count(): Promise<StockThread['checkpoints']>
  /** The ids of a thread's checkpoints, oldest first. */
  ids(threadId: string): Promise<{ checkpoint_ns: string; checkpoint_id: string }[]>
  checkpoint(threadId: string, namespace: string, checkpointId: string): Promise<StockCheckpoint | undefined>
  values(threadId: string, namespace: string, versions: Readonly<Record<string, string>>): Promise<StockValue[]>
  writes(threadId: string, namespace: string, checkpointId: string): Promise<StockWrite[]>
}

/** Runs `work` on the tables in `schema`. Throws `ConfigError` where they are not there. */
export const readStock = <T>(db: Db, schema: string, work: (stock: StockDatabase) => Promise<T>): Promise<T> =>
  db.tx(async (tx) => {
    await tx.rows(sql`set transaction isolation level repeatable read, read only`)
    await tx.rows(sql`select set_config('search_path', quote_ident(${schema}::text), true)`)
    const found = await one(
      tx.rows<{
        whole: boolean
      }>(sql`select to_regclass('checkpoints') is not null and to_regclass('checkpoint_blobs') is not null
        and to_regclass('checkpoint_writes') is not null as whole`),
    )
    if (found?.whole !== true) {
      throw new ConfigError(
        `There are no tables of @langchain/langgraph-checkpoint-postgres in the schema "${schema}" of that database: name another with --schema.`,
      )
    }
    return work(over(tx))
  })

const over = (db: Db): StockDatabase => ({
  threads: (after, limit) =>
    db.rows(sql`select thread_id, count(*) as checkpoints from checkpoints
      where ${after === undefined ? sql`true` : sql`thread_id > ${after}`}
      group by thread_id order by thread_id limit ${limit}`),
  count: async () =>
    (await one(db.rows<{ n: number }>(sql`select count(distinct thread_id) as n from checkpoints`)))?.n ?? 0,
  ids: (threadId) =>
    db.rows(sql`select checkpoint_ns, checkpoint_id from checkpoints where thread_id = ${threadId}
      order by checkpoint_id, checkpoint_ns`),
  checkpoint: async (threadId, namespace, checkpointId) => {
    // As text: the parser of our own json columns would take some characters for escapes.
    const row = await one(
      db.rows<{ parent_checkpoint_id: string | null; checkpoint: string; metadata: string }>(sql`
        select parent_checkpoint_id, checkpoint::text as checkpoint, metadata::text as metadata from checkpoints
        where thread_id = ${threadId} and checkpoint_ns = ${namespace} and checkpoint_id = ${checkpointId}`),
    )
    return (
      row && {
        checkpoint_ns: namespace,
        checkpoint_id: checkpointId,
        parent_checkpoint_id: row.parent_checkpoint_id,
        checkpoint: JSON.parse(row.checkpoint) as Record<string, unknown>,
        metadata: JSON.parse(row.metadata) as Record<string, unknown>,
      }
    )
  },
  values: (threadId, namespace, versions) =>
    db.rows(sql`select v.channel, v.version, v.type, v.blob from checkpoint_blobs v
      join unnest(${Object.keys(versions)}::text[], ${Object.values(versions)}::text[]) as n(channel, version)
        on v.channel = n.channel and v.version = n.version
      where v.thread_id = ${threadId} and v.checkpoint_ns = ${namespace}`),
  writes: (threadId, namespace, checkpointId) =>
    db.rows(sql`select task_id, idx, channel, type, blob from checkpoint_writes
      where thread_id = ${threadId} and checkpoint_ns = ${namespace} and checkpoint_id = ${checkpointId}
      order by task_id, idx`),
})
