// Inserting runs. In charge of doing it in one statement with what it changes of the thread, and in one for many runs where many
// are asked for at once; whether a run may be made is decided in runs/create.ts.

import type { MultitaskStrategy } from '../contract/runs.ts'
import type { Db } from './db.ts'
import { together } from './gather.ts'
import { json } from './json.ts'
import { type RunRow, wire } from './runs.ts'
import { openRun, sealKwargs } from './seal.ts'
import { and, type Sql, sql } from './sql.ts'
import { present, type ThreadTtl, timeToLive } from './threads.ts'

export interface NewRun {
  run_id: string
  thread_id: string
  assistant_id: string
  graph_id: string
  /** The assistant's: what the thread and the run itself say comes over it. */
  defaults: Record<string, unknown>
  metadata: Record<string, unknown>
  kwargs: Record<string, unknown>
  multitask_strategy: MultitaskStrategy
  after_seconds: number
  temporary: boolean
  /** The worker that starts it at once, in this very statement; null leaves it to the queue. */
  worker_id: string | null
}

export interface Inserted extends RunRow {
  epoch: number
  last_seq: number
  state_updated_at: string | null
}

/** A run on its way into a statement. */
interface Row {
  thread_id: string
  text: string
}

const rowOf = (db: Db, run: NewRun): Row => {
  const { run_id, thread_id, assistant_id, graph_id, defaults, metadata, multitask_strategy } = run
  const { after_seconds, temporary, worker_id } = run
  const row = { run_id, thread_id, assistant_id, graph_id, defaults, metadata, multitask_strategy }
  const kwargs = sealKwargs(db, run.kwargs, run)
  return { thread_id, text: json({ ...row, after_seconds, temporary, worker_id, kwargs }) as string }
}

// One text for all: an array of them would be escaped, and read twice.
const rows = (of: readonly Row[]): Sql =>
  sql`n as (select * from json_to_recordset(${`[${of.map(({ text }) => text).join()}]`}::json) as n(run_id uuid,
    thread_id uuid, assistant_id uuid, graph_id text, defaults jsonb, metadata jsonb, kwargs json, multitask_strategy text,
    after_seconds float8, temporary boolean, worker_id uuid))`

const starts = sql`n.worker_id is not null`
/** What a thread shows of the run that was made on it last. */
const stamp = sql`jsonb_build_object('graph_id', n.graph_id, 'assistant_id', n.assistant_id)`

/** Inserts the runs of the threads that `t` has, in the order of their making, and gives them. */
const inserted = sql`r as (insert into runs (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs,
      multitask_strategy, available_at, temporary, worker_id, attempt, started_at)
    select n.run_id, n.thread_id, n.assistant_id, n.graph_id, case when ${starts} then 'running' else 'pending' end,
      n.defaults || t.metadata || n.metadata, n.kwargs, n.multitask_strategy,
      clock_timestamp() + make_interval(secs => n.after_seconds), n.temporary, n.worker_id, (${starts})::int,
      case when ${starts} then clock_timestamp() end
    from t join n using (thread_id) order by n.run_id returning *)
  select ${wire}, t.epoch, t.last_seq, t.state_updated_at from r join t using (thread_id)`

/** What one value costs Postgres knows without it, and plans once; of a list it supposes ten, finds that dear, and plans each time
 *  anew for the values: most of the statement's time. */
const among = (of: readonly Row[]): Sql =>
  of.length === 1
    ? sql`thread_id = ${of[0]?.thread_id}::uuid`
    : sql`thread_id = any(${of.map(({ thread_id }) => thread_id)}::uuid[])`

/** Waits for no lock: else one thread that somebody else has locked would keep the runs of all others waiting. */
const insertOn = (of: readonly Row[], condition: Sql): Sql =>
  sql`with ${rows(of)},
    free as (select thread_id from threads where ${among(of)}
      and ${condition} for no key update skip locked),
    t as (update threads set updated_at = clock_timestamp(), metadata = threads.metadata || ${stamp},
        held_by = case when ${starts} then n.run_id else held_by end, epoch = epoch + (${starts})::int
      from free join n using (thread_id) where threads.thread_id = any(array[free.thread_id])
      returning threads.thread_id, threads.metadata, epoch, state_updated_at, greatest(last_seq,
        coalesce((select max(e.last_seq) from events e where e.thread_id = threads.thread_id), 0)) as last_seq),
    ${inserted}`

/** Inserts a run on a thread that this transaction has locked, stamps the thread with its graph and assistant, and ends the
 *  transaction. */
export async function insertLast(db: Db, run: NewRun): Promise<Inserted | undefined> {
  const [row] = await db.last<Inserted>(insertOn([rowOf(db, run)], sql`true`))
  return row && openRun(db, row)
}

/** A thread on which a run may begin at once, and that adds nothing to its config. */
const isFree = sql`${present} and config::text = '{}'
  and not exists (select 1 from runs a where a.thread_id = threads.thread_id and a.status in ('pending', 'running'))`

/** Nobody has changed the thread since this statement looked. Postgres asks a row that was changed meanwhile again, but not what
 *  else the statement saw; every run that is made changes its thread. */
const unmoved = sql`xmin = (select seen.xmin from threads seen where seen.thread_id = threads.thread_id)`

/** Inserts a run on a thread where nothing else wants to run and the condition holds, and stamps the thread. Gives nothing where
 *  that is not so, and where somebody is just changing the thread. */
export const insertFree = (db: Db, run: NewRun, condition: Sql): Promise<Inserted | undefined> =>
  insert(db, run, { name: 'free', condition: and([isFree, unmoved, condition]), statement: insertOn })

/** As the default of a thread's epoch: one that a thread with this id, deleted since, cannot have come to. */
const firstEpoch = sql`floor(extract(epoch from clock_timestamp()) * 1000000)::bigint`

/** Inserts a thread and its first run. Gives nothing when the thread exists already, or the condition does not hold. */
export function insertWithThread(
  db: Db,
  run: NewRun,
  condition: Sql = sql`true`,
  ttl?: ThreadTtl,
): Promise<Inserted | undefined> {
  const statement = (of: readonly Row[]) => sql`with ${rows(of)},
    t as (insert into threads (thread_id, metadata, held_by, epoch, ttl_strategy, ttl_minutes, expires_at)
      select n.thread_id, ${stamp}, case when ${starts} then n.run_id end, ${firstEpoch} + (${starts})::int, ${timeToLive(ttl)}
      from n where ${condition} order by n.thread_id
      on conflict do nothing returning thread_id, metadata, epoch, last_seq, state_updated_at),
    ${inserted}`
  return insert(db, run, { name: 'with thread', condition, also: ttl, statement })
}

async function insert(
  db: Db,
  run: NewRun,
  how: { name: string; condition: Sql; also?: unknown; statement: (of: readonly Row[], condition: Sql) => Sql },
): Promise<Inserted | undefined> {
  const { name, condition, also, statement } = how
  const item = rowOf(db, run)
  const row = await together<Row, Inserted>(db, {
    kind: JSON.stringify([name, condition.text, condition.values, also]),
    name: run.thread_id,
    item,
    size: item.text.length,
    send: async (of) => {
      const made = await db.rows<Inserted>(statement(of, condition))
      return new Map(made.map((row) => [row.thread_id, row]))
    },
  })
  return row && openRun(db, row)
}
