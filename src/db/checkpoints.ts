// Statements on checkpoints. In charge of reading them with their values and writes in one round trip; values are bytes
// here. Writing is in db/journal.ts.

import type { GuestCalls } from '../executor/protocol.ts'
import type { Blob, Chain, LeaveOut, StoredCheckpoint } from '../executor/stored.ts'
import type { Db } from './db.ts'
import { restore } from './excerpts.ts'
import { json } from './json.ts'
import { wholeMetadata } from './metadata.ts'
import { names, openBlob, type RowName } from './seal.ts'
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
  /** Of a chain: a line for each part, in the order of its bytes, with version, base (empty for the first) and size. */
  parts: string | null
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

async function read(
  db: Db,
  chosen: Sql,
  { history_of, leave_out }: { history_of?: readonly string[]; leave_out?: LeaveOut },
): Promise<StoredCheckpoint[]> {
  const amongst = (channel: Sql, channels: readonly string[] = []): Sql =>
    channels.length > 0 ? sql`${channel} = any(${channels}::text[])` : sql`false`
  const only = (channel: Sql): Sql => (history_of === undefined ? sql`true` : amongst(channel, history_of))
  const without = amongst(sql`v.channel`, leave_out?.values)
  const unread = amongst(sql`w.channel`, leave_out?.writes)
  // A version that several checkpoints have is read once. The planner knows nothing of what is in a checkpoint, and would rather
  // read all values of the thread for each: `offset 0` has each looked up by its key.
  const rows = await db.rows<Row>(sql`with c as materialized (${chosen}),
      has as materialized (select distinct c.thread_id, c.checkpoint_ns, channel, version
        from c cross join lateral json_each_text(c.checkpoint -> 'channel_versions') as had(channel, version)
        where ${only(sql`channel`)}),
      v as materialized (select ${without} as left_out, v.* from has cross join lateral (
        select * from checkpoint_values p where p.thread_id = has.thread_id and p.checkpoint_ns = has.checkpoint_ns
          and p.channel = has.channel and p.version = has.version offset 0) v),
      chains as (select thread_id, checkpoint_ns, channel, chain, max(position) as position from v
        where chain is not null and not left_out
        group by thread_id, checkpoint_ns, channel, chain)
    select 'checkpoint' as kind, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint,
      ${wholeMetadata} as metadata,
      null as channel, null as task_id, null as task_path, null::int as idx, null as type, null::bytea as bytes,
      null as version, null as chain, null as parts, null as source, null as source_base, null as source_type,
      null::bytea as source_bytes from c
    union all select 'value', v.thread_id, v.checkpoint_ns, null, null, null, null, v.channel, null, null, null,
        case when not v.left_out then v.type end, case when v.chain is null and not v.left_out then v.bytes end, v.version,
        v.chain, null, null, null, null, null from v
    union all select 'chain', p.thread_id, p.checkpoint_ns, null, null, null, null, p.channel, null, null, null,
        min(p.type), string_agg(p.bytes, ''::bytea), null, p.chain,
        string_agg(p.version || E'\\t' || coalesce(p.base, '') || E'\\t' || octet_length(p.bytes), E'\\n'),
        null, null, null, null
      from chains cross join lateral (
        select * from checkpoint_values q where q.thread_id = chains.thread_id and q.checkpoint_ns = chains.checkpoint_ns
          and q.channel = chains.channel and q.chain = chains.chain and q.position <= chains.position offset 0) p
      group by p.thread_id, p.checkpoint_ns, p.channel, p.chain
    union all select 'write', c.thread_id, c.checkpoint_ns, c.checkpoint_id, null, null, null, w.channel, w.task_id,
        w.task_path, w.idx, case when not ${unread} then w.type end, case when not ${unread} then w.bytes end, null, s.chain,
        null, w.source, s.base, s.type, s.bytes
      from c cross join lateral (
        select * from checkpoint_writes q where q.thread_id = c.thread_id and q.checkpoint_ns = c.checkpoint_ns
          and q.checkpoint_id = c.checkpoint_id offset 0) w
        left join lateral (
          select * from checkpoint_values p where p.thread_id = c.thread_id and p.checkpoint_ns = c.checkpoint_ns
            and p.channel = w.channel and p.version = w.source and not ${unread} offset 0) s on true
      where ${only(sql`w.channel`)}`)
  const chains = new Map(
    rows.filter((row) => row.kind === 'chain').map((row) => [chainKey(row), createChainReader(db, row)]),
  )
  const values = new Map<string, Value>()
  for (const row of rows) {
    if (row.kind !== 'value') continue
    const list =
      row.type === null || row.chain === null ? undefined : chains.get(chainKey(row))?.(row.version as string)
    values.set(valueKey(row.checkpoint_ns, row.channel, row.version), list ?? { blob: blobOf(db, row, nameOf) })
  }
  const found = new Map<string, StoredCheckpoint>()
  for (const { kind, checkpoint, ...row } of rows) {
    if (kind !== 'checkpoint') continue
    const { thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id } = row
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
    const { task_id, task_path, idx, channel, source } = row as Row & WriteKey
    const blob = writeOf(db, row, names.write({ ...of, task_id }, { idx, channel, source }))
    of.writes.push({ task_id, task_path, idx, channel, blob })
  }
  const all = [...found.values()].sort((a, b) =>
    a.checkpoint_id < b.checkpoint_id ? 1 : a.checkpoint_id > b.checkpoint_id ? -1 : 0,
  )
  for (const { writes } of all) writes.sort(byExecution)
  return all
}

type Value = Omit<StoredCheckpoint['values'][number], 'channel'>

type WriteKey = Omit<StoredCheckpoint['writes'][number], 'blob'>

/** What is left out has no type in the row. */
const blobOf = (db: Db, row: Row, name: (row: Row) => RowName): Blob =>
  row.type === null
    ? { type: 'left_out', bytes: new Uint8Array(0) }
    : openBlob(db, { type: row.type, bytes: row.bytes as Uint8Array }, name(row))

/** A write, whole: what an excerpt lacks stands in the value that it was taken from. */
function writeOf(db: Db, row: Row, name: RowName): Blob {
  const blob = blobOf(db, row, () => name)
  const { source, source_base: base, source_type: type, source_bytes: bytes } = row
  if (source === null || row.type === null) return blob
  if (type === null || bytes === null) throw new Error(`What a task wrote to ${row.channel} (${source}) is missing.`)
  const value = openBlob(db, { type, bytes }, nameOf(row, { version: source, base }))
  return { type: blob.type, bytes: restore(blob.bytes, value.bytes) }
}

const valueKey = (namespace: string, channel: unknown, version: unknown): string =>
  `${namespace}\n${channel}\n${version}`

const chainKey = ({ checkpoint_ns, channel, chain }: Row): string => `${checkpoint_ns}\n${channel}\n${chain}`

const nameOf = (
  row: Row,
  part: { version: string; base: string | null } = { version: row.version as string, base: null },
) => names.value(row, { channel: row.channel as string, chain: row.chain, ...part })

/** Gives the versions of a list from the parts of their chain: forks of one version stand at the same position, so the way
 *  goes from base to base. */
function createChainReader(db: Db, row: Row): (version: string) => { blob: Blob; chain: Chain } {
  const { channel, chain } = row
  const stored = { type: row.type as string, bytes: row.bytes as Uint8Array }
  const known = new Map<string, { base: string | null; size: number; inner: Uint8Array }>()
  let type = stored.type
  let at = 0
  for (const line of (row.parts ?? '').split('\n')) {
    const [version = '', before, length] = line.split('\t')
    const base = before || null
    const size = Number(length)
    const part = { type: stored.type, bytes: stored.bytes.subarray(at, at + size) }
    const opened = openBlob(db, part, nameOf(row, { version, base }))
    type = opened.type
    known.set(version, { base, size, inner: opened.bytes.subarray(1, -1) })
    at += size
  }
  return (version) => {
    const texts: Uint8Array[] = [CLOSE]
    const found: Chain = { id: chain as string, position: -1, whole_bytes: 0, added_bytes: 0 }
    for (let next: string | null = version; next !== null; ) {
      const part = known.get(next)
      if (part === undefined) throw new Error(`A part of the list ${channel} (${next}) is missing.`)
      found.position++
      if (part.base === null) found.whole_bytes = part.size
      else found.added_bytes += part.size
      if (part.inner.length > 0) texts.push(...(texts.length > 1 ? [COMMA] : []), part.inner)
      next = part.base
    }
    texts.push(OPEN)
    return { blob: { type, bytes: Buffer.concat(texts.reverse()) }, chain: found }
  }
}

const [OPEN, COMMA, CLOSE] = [Buffer.from('['), Buffer.from(','), Buffer.from(']')]

type Write = StoredCheckpoint['writes'][number]
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** The order in which live execution applies a superstep's writes. */
const byExecution = (a: Write, b: Write): number =>
  compare(a.task_path, b.task_path) || compare(a.task_id, b.task_id) || a.idx - b.idx
