// Statements on checkpoints. In charge of reading them with their values and writes in one round trip; values are bytes
// here. Writing is in db/journal.ts.

import type { GuestCalls } from '../executor/protocol.ts'
import type { Blob, LeaveOut, StoredCheckpoint, StoredSplice } from '../executor/stored.ts'
import { type ChainRow, chainRows, createLists } from './chains.ts'
import type { Db } from './db.ts'
import { restore } from './excerpts.ts'
import { json } from './json.ts'
import { wholeMetadata } from './metadata.ts'
import { names, openBlob, type RowName } from './seal.ts'
import { splicesOf } from './splices.ts'
import { and, type Sql, sql } from './sql.ts'

export { store } from './journal.ts'

interface Row {
  kind: 'checkpoint' | 'value' | 'chain' | 'write'
  thread_id: string
  checkpoint_ns: string
  checkpoint_id: string
  parent_checkpoint_id: string | null
  checkpoint: Record<string, unknown> | null
  metadata: Record<string, unknown> | null
  channel: string | null
  task_id: string | null
  task_path: string | null
  idx: number | null
  type: string | null
  bytes: Uint8Array | null
  version: string | null
  chain: string | null
  /** Of a write that is an excerpt: the version of its channel that it was taken from, and that value as it is stored. */
  source: string | null
  source_base: string | null
  source_type: string | null
  source_bytes: Uint8Array | null
  source_splices: string | null
  /** Of a chain: see `ChainRow`. */
  parts: string | null
  splices: string | null
}

/** The named, or the latest, checkpoint of a namespace. */
export async function get(db: Db, which: GuestCalls['checkpoint.get']['params']): Promise<StoredCheckpoint | null> {
  const chosen = sql`select * from checkpoints c where c.thread_id = ${which.thread_id}
    and c.checkpoint_ns = ${which.checkpoint_ns}
    and ${which.checkpoint_id === undefined ? sql`true` : sql`c.checkpoint_id = ${which.checkpoint_id}`}
    order by c.checkpoint_id desc limit 1`
  return (await read(db, chosen, which))[0] ?? null
}

/** Checkpoints of a thread, newest first. */
export function list(db: Db, which: GuestCalls['checkpoint.list']['params']): Promise<StoredCheckpoint[]> {
  if (which.history_of !== undefined) return read(db, lineage(which, which.history_of), which)
  const chosen = sql`select * from checkpoints c where ${and([
    sql`c.thread_id = ${which.thread_id}`,
    which.checkpoint_ns === undefined ? undefined : sql`c.checkpoint_ns = ${which.checkpoint_ns}`,
    which.checkpoint_id === undefined ? undefined : sql`c.checkpoint_id = ${which.checkpoint_id}`,
    which.before === undefined ? undefined : sql`c.checkpoint_id < ${which.before}`,
    which.metadata === undefined ? undefined : sql`${wholeMetadata} @> ${json(which.metadata)}::jsonb`,
  ])} order by c.checkpoint_id desc limit ${which.limit ?? null}`
  return read(db, chosen, which)
}

/** A checkpoint and, from parent to parent, those that the channels' values come from: what a checkpoint wants is what none
 *  after it had, and the checkpoint itself does not count. */
const lineage = (which: GuestCalls['checkpoint.list']['params'], channels: readonly string[]): Sql => sql`
  with recursive path as (
    (select c.*, 0 as depth, ${channels}::text[] as wanted from checkpoints c
      where c.thread_id = ${which.thread_id} and c.checkpoint_ns = ${which.checkpoint_ns ?? ''}
        and ${which.checkpoint_id === undefined ? sql`true` : sql`c.checkpoint_id = ${which.checkpoint_id}`}
      order by c.checkpoint_id desc limit 1)
    union all
    select c.*, path.depth + 1, still.wanted from path
      cross join lateral (select array(select w.name from unnest(path.wanted) as w(name)
        where path.depth = 0 or not exists (select 1 from checkpoint_values v where v.thread_id = path.thread_id
          and v.checkpoint_ns = path.checkpoint_ns and v.channel = w.name
          and v.version = path.checkpoint -> 'channel_versions' ->> w.name)) as wanted) still
      join checkpoints c on c.thread_id = path.thread_id and c.checkpoint_ns = path.checkpoint_ns
        and c.checkpoint_id = path.parent_checkpoint_id
      where cardinality(still.wanted) > 0)
  select * from path`

const ofGone = sql`exists (select 1 from gone g where g.checkpoint_ns = w.checkpoint_ns
  and g.checkpoint_id = w.checkpoint_id)`

/** Removes a run's checkpoints with their writes, and what the run wrote under older checkpoints (the answer to an interrupt,
 *  say), as rollback does. Values that only they had are left over. Under the thread's lock. */
export const removeOfRun = (db: Db, threadId: string, runId: string): Promise<unknown> =>
  db.rows(sql`with gone as (delete from checkpoints where thread_id = ${threadId} and run_id = ${runId}
      returning checkpoint_ns, checkpoint_id),
    w as (delete from checkpoint_writes w where w.thread_id = ${threadId}
      and (${ofGone} or (w.run_id = ${runId} and w.replaced_type is null))),
    restored as (update checkpoint_writes w set run_id = w.replaced_run_id, channel = w.replaced_channel,
        type = w.replaced_type, bytes = w.replaced_bytes, replaced_run_id = null, replaced_channel = null,
        replaced_type = null, replaced_bytes = null
      where w.thread_id = ${threadId} and w.run_id = ${runId} and w.replaced_type is not null and not ${ofGone})
    update threads set leftovers = true where thread_id = ${threadId}`)

/** Removes everything of a thread's history. */
export const removeOfThread = (db: Db, threadId: string): Promise<unknown> =>
  db.rows(sql`with w as (delete from checkpoint_writes where thread_id = ${threadId}),
    v as (delete from checkpoint_values where thread_id = ${threadId})
    delete from checkpoints where thread_id = ${threadId}`)

type Question = { thread_id: string; history_of?: readonly string[]; leave_out?: LeaveOut }

async function read(db: Db, chosen: Sql, which: Question): Promise<StoredCheckpoint[]> {
  // Between the two statements that a thread with subgraphs takes, a checkpoint can be removed with what its lists begin with.
  const found = (await readOnce(db, chosen, which)) ?? (await readOnce(db, chosen, which))
  if (found === undefined) throw new Error(`What a list of the thread ${which.thread_id} begins with is missing.`)
  return found
}

async function readOnce(
  db: Db,
  chosen: Sql,
  { thread_id, history_of, leave_out }: Question,
): Promise<StoredCheckpoint[] | undefined> {
  const rows = await db.rows<Row>(statement(chosen, history_of, leave_out))
  const lists = createLists(db, thread_id)
  const splices: StoredSplice[] = []
  for (const row of rows) {
    if (row.kind === 'chain') lists.learn(row as Row & ChainRow)
    if (row.splices !== null && row.type !== null) splices.push(...splicesOf(row.splices))
  }
  if (!(await lists.fetch(splices))) return undefined
  const values = new Map<string, Value>()
  for (const row of rows) {
    if (row.kind !== 'value') continue
    const { checkpoint_ns, channel, version, splices } = row as Row & ValueKey
    const value =
      row.type === null || row.chain === null
        ? { blob: lists.whole(blobOf(db, row, nameOf), splicesOf(row.type === null ? null : splices)) }
        : lists.list({ checkpoint_ns, channel, version })
    values.set(valueKey(checkpoint_ns, channel, version), value)
  }
  const found = new Map<string, StoredCheckpoint>()
  for (const { kind, checkpoint, ...row } of rows) {
    if (kind !== 'checkpoint') continue
    const { checkpoint_ns, checkpoint_id, parent_checkpoint_id } = row
    found.set(`${checkpoint_ns}\n${checkpoint_id}`, {
      thread_id,
      checkpoint_ns,
      checkpoint_id,
      parent_checkpoint_id,
      checkpoint: { ...checkpoint, id: checkpoint_id },
      metadata: row.metadata ?? {},
      values: Object.entries(checkpoint?.channel_versions ?? {}).flatMap(([channel, version]) => {
        const value = values.get(valueKey(checkpoint_ns, channel, version))
        return value ? [{ channel, ...value }] : []
      }),
      writes: [],
    })
  }
  for (const row of rows) {
    const of = found.get(`${row.checkpoint_ns}\n${row.checkpoint_id}`)
    if (of === undefined || row.kind !== 'write') continue
    const { task_id, task_path, idx, channel, source, splices } = row as Row & WriteKey
    const own = writeOf(db, row, names.write({ ...of, task_id }, { idx, channel, source, splices }))
    const blob = row.type === null ? own : lists.whole(own, splicesOf(splices))
    of.writes.push({ task_id, task_path, idx, channel, blob })
  }
  const all = [...found.values()].sort((a, b) =>
    a.checkpoint_id < b.checkpoint_id ? 1 : a.checkpoint_id > b.checkpoint_id ? -1 : 0,
  )
  for (const { writes } of all) writes.sort(byExecution)
  return all
}

/** Chosen checkpoints with their values, the parts of their lists, and their writes: all in one statement. */
function statement(chosen: Sql, history_of: readonly string[] | undefined, leave_out: LeaveOut | undefined): Sql {
  const amongst = (channel: Sql, channels: readonly string[] = []): Sql =>
    channels.length > 0 ? sql`${channel} = any(${channels}::text[])` : sql`false`
  const only = (channel: Sql): Sql => (history_of === undefined ? sql`true` : amongst(channel, history_of))
  const without = amongst(sql`v.channel`, leave_out?.values)
  const unread = amongst(sql`w.channel`, leave_out?.writes)
  // A version that several checkpoints have is read once. The planner knows nothing of what is in a checkpoint, and would rather
  // read all values of the thread for each: `offset 0` has each looked up by its key.
  return sql`with c as materialized (${chosen}),
      has as materialized (select distinct c.thread_id, c.checkpoint_ns, channel, version
        from c cross join lateral json_each_text(c.checkpoint -> 'channel_versions') as had(channel, version)
        where ${only(sql`channel`)}),
      v as materialized (select ${without} as left_out, v.* from has cross join lateral (
        select * from checkpoint_values p where p.thread_id = has.thread_id and p.checkpoint_ns = has.checkpoint_ns
          and p.channel = has.channel and p.version = has.version offset 0) v)
    select 'checkpoint' as kind, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint,
      ${wholeMetadata} as metadata,
      null as channel, null as task_id, null as task_path, null::int as idx, null as type, null::bytea as bytes,
      null as version, null as chain, null as parts, null as splices, null as source, null as source_base,
      null as source_type, null::bytea as source_bytes, null as source_splices from c
    union all select 'value', v.thread_id, v.checkpoint_ns, null, null, null, null, v.channel, null, null, null,
        case when not v.left_out then v.type end, case when v.chain is null and not v.left_out then v.bytes end, v.version,
        v.chain, null, case when v.chain is null then v.splices end, null, null, null, null, null from v
    union all select 'chain', p.thread_id, p.checkpoint_ns, null, null, null, null, p.channel, null, null, null,
        p.type, p.bytes, null, p.chain, p.parts, p.splices, null, null, null, null, null
      from (${chainRows(sql`select thread_id, checkpoint_ns, channel, chain, max(position) as position from v
        where chain is not null and not left_out group by thread_id, checkpoint_ns, channel, chain`)}) p
    union all select 'write', c.thread_id, c.checkpoint_ns, c.checkpoint_id, null, null, null, w.channel, w.task_id,
        w.task_path, w.idx, case when not ${unread} then w.type end, case when not ${unread} then w.bytes end, null, s.chain,
        null, w.splices, w.source, s.base, s.type, s.bytes, s.splices
      from c cross join lateral (
        select * from checkpoint_writes q where q.thread_id = c.thread_id and q.checkpoint_ns = c.checkpoint_ns
          and q.checkpoint_id = c.checkpoint_id offset 0) w
        left join lateral (
          select * from checkpoint_values p where p.thread_id = c.thread_id and p.checkpoint_ns = c.checkpoint_ns
            and p.channel = w.channel and p.version = w.source and not ${unread} offset 0) s on true
      where ${only(sql`w.channel`)}`
}

type Value = Omit<StoredCheckpoint['values'][number], 'channel'>

type ValueKey = { channel: string; version: string }
type WriteKey = Omit<StoredCheckpoint['writes'][number], 'blob'>

/** What is left out has no type in the row. */
const blobOf = (db: Db, row: Row, name: (row: Row) => RowName): Blob =>
  row.type === null
    ? { type: 'left_out', bytes: new Uint8Array(0) }
    : openBlob(db, { type: row.type, bytes: row.bytes as Uint8Array }, name(row))

/** A write as it was sent: what an excerpt lacks stands in the value that it was taken from. */
function writeOf(db: Db, row: Row, name: RowName): Blob {
  const blob = blobOf(db, row, () => name)
  const { source, source_base: base, source_type: type, source_bytes: bytes, source_splices: splices } = row
  if (source === null || row.type === null) return blob
  if (type === null || bytes === null) throw new Error(`What a task wrote to ${row.channel} (${source}) is missing.`)
  const value = openBlob(db, { type, bytes }, nameOf(row, { version: source, base, splices }))
  return { type: blob.type, bytes: restore(blob.bytes, value.bytes) }
}

const valueKey = (namespace: string, channel: unknown, version: unknown): string =>
  `${namespace}\n${channel}\n${version}`

const nameOf = (
  row: Row,
  part: { version: string; base: string | null; splices: string | null } = {
    version: row.version as string,
    base: null,
    splices: row.splices,
  },
) => names.value(row, { channel: row.channel as string, chain: row.chain, ...part })

type Write = StoredCheckpoint['writes'][number]
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** The order in which live execution applies a superstep's writes. */
const byExecution = (a: Write, b: Write): number =>
  compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx
