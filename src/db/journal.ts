// The one statement that everything a running run writes goes through: events, checkpoints, channel values, task writes
// and settlements of many runs at once. In charge of the fence: it locks the threads whose holder and epoch are still
// the writer's, and writes nothing for the others. One round trip, one commit.

import type { Text } from '../executor/protocol.ts'
import type { CheckpointPut, WritesPut } from '../executor/stored.ts'
import { bytesOf, textOf } from '../pieces.ts'
import { Bodies, BYTES, textFrom } from './bodies.ts'
import type { Db } from './db.ts'
import type { StoredBatch } from './event-deltas.ts'
import { createExcerpts } from './excerpts.ts'
import { json, storableBytes } from './json.ts'
import { withoutRun } from './metadata.ts'
import { names, sealBlob, sealText, sealValue } from './seal.ts'
import { splicesText } from './splices.ts'
import { join, type Sql, sql } from './sql.ts'
import { owe } from './webhooks.ts'

/** What one run brings to a batch. */
export interface Entry {
  thread_id: string
  run_id: string
  epoch: number
  /** `at` is when they were made, in milliseconds since 1970. */
  events: ({ first_seq: number; last_seq: number; at: number } & StoredBatch) | undefined
  puts: readonly CheckpointPut[]
  writes: readonly WritesPut[]
  settle: Settlement | undefined
}

/** How a run ends, and how it leaves its thread. */
export interface Settlement {
  status: 'success' | 'error' | 'timeout' | 'interrupted'
  error: unknown
  /** JSON text; null leaves the thread's values as they were. */
  values: Text | null
  interrupts: unknown
  settled_status: 'idle' | 'interrupted' | 'error'
  last_seq: number
  doom: boolean
  /** The run names a webhook, which is owed its end. */
  webhook?: boolean
}

/** Writes a batch; gives the indexes of the entries that were written, the others lost their lease. `unsettled`: all but its
 *  end and what it says last, because the run is to be rolled back. */
export async function commit(db: Db, entries: readonly Entry[]): Promise<Map<number, 'written' | 'unsettled'>> {
  const fence = sql`select n.i::int as i, t.thread_id, n.run_id
    from unnest(${entries.map((e) => e.thread_id)}::uuid[], ${entries.map((e) => e.run_id)}::uuid[],
      ${entries.map((e) => e.epoch)}::bigint[]) with ordinality as n(thread_id, run_id, epoch, i)
    join threads t on t.thread_id = n.thread_id and t.held_by = n.run_id and t.epoch = n.epoch
    order by t.thread_id for no key update of t`
  const unsettled = entries.some(({ settle }) => settle !== undefined)
    ? sql`run_id in (select run_id from settled) and run_id not in (select run_id from ended_runs)`
    : sql`false`
  const bodies = new Bodies()
  const log = events(db, entries, unsettled, bodies)
  const parts = [...settlements(db, entries, bodies), ...log, ...checkpoints(db, entries, bodies)]
  const rows = await db.rows<{ i: number; unsettled: boolean }>(
    sql`with recursive fence as (${fence})${bodies.with(parts)} select i, ${unsettled} as unsettled from fence`,
  )
  return new Map(rows.map(({ i, unsettled }) => [i - 1, unsettled ? 'unsettled' : 'written']))
}

/** Stores checkpoints outside of a run (state updates). The caller holds the thread's lock. */
export async function store(
  db: Db,
  what: { puts: CheckpointPut[]; writes: WritesPut[]; run_id: string | null },
): Promise<void> {
  const thread = what.puts[0]?.thread_id ?? what.writes[0]?.thread_id
  if (thread === undefined) return
  const fence = sql`select 1 as i, ${thread}::uuid as thread_id, ${what.run_id}::uuid as run_id`
  const bodies = new Bodies()
  const parts = checkpoints(db, [what], bodies)
  await db.rows(sql`with recursive fence as (${fence})${bodies.with(parts)} select i from fence`)
}

function events(db: Db, entries: readonly Entry[], unsettled: Sql, bodies: Bodies): Sql[] {
  const rows = entries.flatMap(({ thread_id, run_id, events }, i) => {
    if (events === undefined) return []
    const { first_seq } = events
    const name = names.events(thread_id, { run_id, first_seq })
    const batch = db.seal === undefined ? events.batch : sealText(db, textOf(events.batch), name)
    return [{ ...events, i: i + 1, whole: events.size, ...bodies.add(bytesOf(batch)) }]
  })
  if (!rows.length) return []
  return [
    sql`, written_events as (insert into events (thread_id, first_seq, last_seq, run_id, at_ms, batch, base, size)
    select f.thread_id, n.first_seq, n.last_seq, f.run_id, n.at, ${textFrom(BYTES)}, n.base, n.of
    from unnest(${rows.map((r) => r.i)}::int[], ${rows.map((r) => r.first_seq)}::bigint[],
      ${rows.map((r) => r.last_seq)}::bigint[], ${rows.map((r) => r.at)}::bigint[], ${rows.map((r) => r.start)}::int[],
      ${rows.map((r) => r.size)}::int[], ${rows.map((r) => r.base)}::bigint[], ${rows.map((r) => r.whole)}::bigint[])
      as n(i, first_seq, last_seq, at, start, size, base, of)
    join fence f using (i), body where not (${unsettled}) on conflict do nothing)`,
  ]
}

type Stores = Pick<Entry, 'puts' | 'writes'> & { run_id: string | null }

function checkpoints(db: Db, entries: readonly Stores[], bodies: Bodies): Sql[] {
  const puts = latest(
    entries.flatMap(({ puts, run_id }, i) => puts.map((put) => ({ i: i + 1, run_id, put }))),
    ({ put }) => `${put.thread_id}\n${put.checkpoint_ns}\n${put.checkpoint_id}`,
  )
  const values = latest(
    entries.flatMap(({ puts }, i) => puts.flatMap((put) => put.values.map((value) => ({ i: i + 1, put, value })))),
    ({ put, value }) => `${put.thread_id}\n${put.checkpoint_ns}\n${value.channel}\n${value.version}`,
  ).map((row) => {
    const { channel, version, blob, list } = row.value
    const splices = splicesText(row.value.splices)
    const of = { channel, version, chain: list?.chain ?? null, base: list?.base ?? null, splices }
    const { type, bytes } = sealBlob(db, blob, names.value(row.put, of))
    return { ...row, splices, type, ...bodies.add([bytes]) }
  })
  const excerpt = createExcerpts(values)
  const writes = latest(
    entries.flatMap(({ writes }, i) => writes.flatMap((of) => of.writes.map((write) => ({ i: i + 1, of, write })))),
    ({ of, write }) => `${of.thread_id}\n${of.checkpoint_ns}\n${of.checkpoint_id}\n${of.task_id}\n${write.idx}`,
  ).map((row) => {
    const { i, of, write } = row
    const { blob, source } = excerpt(i, of, write)
    const splices = splicesText(write.splices)
    const { type, bytes } = sealBlob(db, blob, names.write(of, { ...write, source, splices }))
    return { ...row, source, splices, type, ...bodies.add([bytes]) }
  })
  const parts: Sql[] = []
  if (puts.length)
    parts.push(sql`, written_checkpoints as (insert into checkpoints
      (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, run_id, checkpoint, metadata)
    select f.thread_id, n.ns, n.id, n.parent, f.run_id, n.checkpoint::json, n.metadata::jsonb
    from unnest(${puts.map((r) => r.i)}::int[], ${puts.map((r) => r.put.checkpoint_ns)}::text[],
      ${puts.map((r) => r.put.checkpoint_id)}::text[], ${puts.map((r) => r.put.parent_checkpoint_id)}::text[],
      ${puts.map((r) => json(withoutId(r.put.checkpoint)))}::text[],
      ${puts.map((r) => json(withoutRun(r.put.metadata, r.run_id)))}::text[])
      as n(i, ns, id, parent, checkpoint, metadata) join fence f using (i)
    on conflict (thread_id, checkpoint_ns, checkpoint_id) do update
      set checkpoint = excluded.checkpoint, metadata = excluded.metadata)`)
  if (values.length)
    parts.push(sql`, written_values as (insert into checkpoint_values
      (thread_id, checkpoint_ns, channel, version, type, bytes, chain, position, base, splices)
    select f.thread_id, n.ns, n.channel, n.version, n.type, ${BYTES},
      n.chain, n.position, n.base, n.splices
    from unnest(${values.map((r) => r.i)}::int[], ${values.map((r) => r.put.checkpoint_ns)}::text[],
      ${values.map((r) => r.value.channel)}::text[], ${values.map((r) => r.value.version)}::text[],
      ${values.map((r) => r.type)}::text[], ${values.map((r) => r.start)}::int[], ${values.map((r) => r.size)}::int[],
      ${values.map((r) => r.value.list?.chain ?? null)}::text[], ${values.map((r) => r.value.list?.position ?? null)}::int[],
      ${values.map((r) => r.value.list?.base ?? null)}::text[], ${values.map((r) => r.splices)}::text[])
      as n(i, ns, channel, version, type, start, size, chain, position, base, splices) join fence f using (i), body
    on conflict do nothing)`)
  // A special write (an error, an interrupt; its index is negative) replaces the one before; a regular one never does. What
  // another run wrote is kept beside it, in case this one is rolled back.
  if (writes.length)
    parts.push(sql`, written_writes as (insert into checkpoint_writes
      (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, task_path, type, bytes, source, splices, run_id)
    select f.thread_id, n.ns, n.id, n.task_id, n.idx, n.channel, n.path, n.type,
      ${BYTES}, n.source, n.splices, f.run_id
    from unnest(${writes.map((r) => r.i)}::int[], ${writes.map((r) => r.of.checkpoint_ns)}::text[],
      ${writes.map((r) => r.of.checkpoint_id)}::text[], ${writes.map((r) => r.of.task_id)}::text[],
      ${writes.map((r) => r.write.idx)}::int[], ${writes.map((r) => r.write.channel)}::text[],
      ${writes.map((r) => r.of.task_path)}::text[], ${writes.map((r) => r.type)}::text[],
      ${writes.map((r) => r.start)}::int[], ${writes.map((r) => r.size)}::int[], ${writes.map((r) => r.source)}::text[],
      ${writes.map((r) => r.splices)}::text[])
      as n(i, ns, id, task_id, idx, channel, path, type, start, size, source, splices) join fence f using (i), body
    on conflict (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) do update
      set channel = excluded.channel, type = excluded.type, bytes = excluded.bytes, run_id = excluded.run_id,
        ${join([
          kept(sql`run_id`, sql`replaced_run_id`),
          kept(sql`channel`, sql`replaced_channel`),
          kept(sql`type`, sql`replaced_type`),
          kept(sql`bytes`, sql`replaced_bytes`),
        ])}
      where checkpoint_writes.idx < 0)`)
  return parts
}

/** The id has a column of its own. */
function withoutId({ id: _, ...checkpoint }: Record<string, unknown>): Record<string, unknown> {
  return checkpoint
}

const kept = (column: Sql, replaced: Sql): Sql => sql`${replaced} = case
  when checkpoint_writes.run_id is distinct from excluded.run_id then checkpoint_writes.${column}
  else checkpoint_writes.${replaced} end`

function settlements(db: Db, entries: readonly Entry[], bodies: Bodies): Sql[] {
  const rows = entries.flatMap(({ thread_id, settle }, i) => {
    if (settle === undefined) return []
    const { values, interrupts } = sealed(db, thread_id, settle)
    // A run's state is mostly what it streamed last.
    return [{ ...settle, i: i + 1, interrupts, places: values === null ? [] : bodies.find(values) }]
  })
  const places = rows.flatMap(({ i, places }) => places.map((place) => ({ i, ...place })))
  const values = sql`(select ${textFrom(sql`string_agg(${BYTES}, ''::bytea order by n.k)`)}
    from unnest(${places.map((p) => p.i)}::int[], ${places.map((p) => p.start)}::int[], ${places.map((p) => p.size)}::int[])
      with ordinality as n(i, start, size, k), body where n.i = s.i)`
  if (!rows.length) return []
  // Columns only where they are used: a run's arguments may be large.
  const owes = rows.some(({ webhook }) => webhook)
  return [
    sql`, settled as (select f.thread_id, f.run_id, s.*, ${values} as "values" from unnest(${rows.map((r) => r.i)}::int[],
      ${rows.map((r) => r.status)}::text[], ${rows.map((r) => (r.error === null ? null : json(r.error)))}::text[],
      ${rows.map((r) => json(r.interrupts))}::text[],
      ${rows.map((r) => r.settled_status)}::text[], ${rows.map((r) => r.last_seq)}::bigint[], ${rows.map((r) => r.doom)}::boolean[])
      as s(i, status, error, interrupts, settled_status, last_seq, doom) join fence f using (i))`,
    sql`, ended_runs as (update runs r set status = s.status, error = s.error::json, worker_id = null,
      ended_at = clock_timestamp(), updated_at = clock_timestamp() from settled s
      where r.run_id = s.run_id and r.cancel_action is distinct from 'rollback' returning ${owes ? sql`r.*` : sql`r.run_id`})`,
    sql`, left_threads as (update threads t set held_by = null, settled_status = s.settled_status, error = s.error::json,
      "values" = coalesce(s."values"::json, t."values"), interrupts = s.interrupts::json, last_seq = s.last_seq,
      updated_at = clock_timestamp(), state_updated_at = clock_timestamp(),
      expires_at = case when t.ttl_minutes is not null then clock_timestamp() + t.ttl_minutes * interval '1 minute' end,
      doomed_at = case when s.doom then clock_timestamp() end, leftovers = t.leftovers or s.status <> 'success'
      from settled s join ended_runs using (run_id) where t.thread_id = s.thread_id)`,
    ...(owes ? [sql`, owed as (${owe(sql`ended_runs`, NEW_VALUES)})`] : []),
  ]
}

const NEW_VALUES = sql`coalesce((select s."values"::json from settled s where s.run_id = r.run_id), t."values")`

function sealed(db: Db, threadId: string, { values, interrupts }: Settlement) {
  if (db.seal === undefined) return { values: values === null ? null : storableBytes(values), interrupts }
  const seal = (text: Text) => JSON.stringify(sealText(db, textOf(text), names.thread(threadId, 'values')))
  return {
    values: values === null ? null : bytesOf(seal(values)),
    interrupts: sealValue(db, interrupts, names.thread(threadId, 'interrupts')),
  }
}

/** One row per key, the last one: a statement may not touch a row twice. */
function latest<T>(rows: readonly T[], key: (row: T) => string): T[] {
  return rows.length < 2 ? [...rows] : [...new Map(rows.map((row) => [key(row), row])).values()]
}
