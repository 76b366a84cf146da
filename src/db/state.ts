// What reading and changing a thread's state needs of SQL. In charge of the order in which a change is safe: lock the
// thread, see that nothing runs, see that nobody was faster, store. Checkpoints themselves are stored by journal.ts.

import { ApiError } from '../errors.ts'
import type { FinalState } from '../executor/protocol.ts'
import type { Db } from './db.ts'
import { one } from './db.ts'
import { json, storable } from './json.ts'
import { names, sealText, sealValue } from './seal.ts'
import { type Sql, sql } from './sql.ts'
import { present, renewedExpiry } from './threads.ts'

/** A thread as the one who reads its state must know it. */
export interface StateSubject {
  thread_id: string
  metadata: Record<string, unknown>
  config: Record<string, unknown>
  /** The config of the assistant that the thread was last run with; null where there is none. */
  assistant_config: Record<string, unknown> | null
}

const byId = (id: string, visible: Sql): Sql => sql`thread_id = ${id}::uuid and ${present} and ${visible}`

/** The thread with the configs its graph is read with; throws `thread_not_found`. */
export async function subject(db: Db, id: string, visible: Sql): Promise<StateSubject> {
  const row = await one(
    db.rows<StateSubject>(sql`
      select t.*, a.config as assistant_config
      from (select thread_id, metadata, config from threads where ${byId(id, visible)}) t
      left join assistants a on a.assistant_id =
        case when t.metadata ->> 'assistant_id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
          then (t.metadata ->> 'assistant_id')::uuid end`),
  )
  return row ?? missing(id)
}

/** The thread's epoch: it moves on with every run, every change of the state and every prune. Throws `thread_busy` while a run is
 *  pending or running, since that may change the state without moving it on. */
export async function epoch(db: Db, id: string): Promise<number | null> {
  const now = await one(
    db.rows<{ busy: boolean; epoch: number }>(sql`
      select epoch, exists (select 1 from runs r where r.thread_id = threads.thread_id
        and r.status in ('pending', 'running')) as busy
      from threads where thread_id = ${id}::uuid`),
  )
  if (now?.busy) {
    throw new ApiError(
      'thread_busy',
      'A run is pending or running on the thread: wait for it or cancel it, then try again.',
    )
  }
  return now?.epoch ?? null
}

/** Locks the thread for a change of its state and gives its `epoch`, read under the lock. Throws `thread_not_found`, and
 *  what that does. Call it in a transaction. */
export async function lock(tx: Db, id: string, visible: Sql): Promise<number | null> {
  const locked = await tx.rows(sql`select thread_id from threads where ${byId(id, visible)} for update`)
  if (!locked.length) missing(id)
  return epoch(tx, id)
}

/** Throws `checkpoint_not_found` where the thread has no such checkpoint in any namespace. */
export async function assertCheckpoint(tx: Db, id: string, checkpointId: string): Promise<void> {
  const found = await tx.rows(sql`
    select 1 from checkpoints where thread_id = ${id}::uuid and checkpoint_id = ${checkpointId} limit 1`)
  if (!found.length) throw new ApiError('checkpoint_not_found', `The thread has no checkpoint ${checkpointId}.`)
}

/** Writes on the locked thread what the change left it with. The epoch moves on: who ran on the thread before no longer
 *  knows its state. */
export const settle = (tx: Db, id: string, state: FinalState): Promise<unknown> => {
  const waits = state.next.length > 0 || Object.keys(state.interrupts).length > 0
  const values =
    tx.seal === undefined ? storable(state.values) : json(sealText(tx, state.values, names.thread(id, 'values')))
  const interrupts = sealValue(tx, state.interrupts, names.thread(id, 'interrupts'))
  return tx.rows(sql`
    update threads set "values" = ${values}::json, interrupts = ${json(interrupts)}::json,
      settled_status = ${waits ? 'interrupted' : 'idle'}, error = null, state_updated_at = clock_timestamp(),
      updated_at = clock_timestamp(), expires_at = ${renewedExpiry}, epoch = epoch + 1
    where thread_id = ${id}::uuid`)
}

/** Merges metadata into the latest checkpoint of the locked thread; throws `checkpoint_not_found`. */
export async function patchMetadata(tx: Db, id: string, metadata: Record<string, unknown>): Promise<void> {
  const changed = await tx.rows(sql`
    with moved as (update threads set epoch = epoch + 1 where thread_id = ${id}::uuid)
    update checkpoints set metadata = metadata || ${json(metadata)}::jsonb
    where thread_id = ${id}::uuid and checkpoint_ns = '' and checkpoint_id = (
      select max(c.checkpoint_id) from checkpoints c where c.thread_id = ${id}::uuid and c.checkpoint_ns = '')
    returning checkpoint_id`)
  if (!changed.length)
    throw new ApiError('checkpoint_not_found', `The thread ${id} has no checkpoint yet: run it first.`)
}

function missing(id: string): never {
  throw new ApiError('thread_not_found', `The thread ${id} does not exist.`)
}
