// What the commands of the thread protocol ask of a thread: who runs on it, what it waits for, which namespaces and
// checkpoints it has. Reading only; whoever asks about a run or a checkpoint has seen the thread first.

import { type Db, one } from './db.ts'
import { wholeMetadata } from './metadata.ts'
import type { RunRow, RunStatus } from './runs.ts'
import { openRun, openThread } from './seal.ts'
import { type Sql, sql } from './sql.ts'

/** A thread as a command meets it. */
export interface Subject {
  thread_id: string
  /** The assistant that ran on it last, or the graph it was made for. */
  assistant_id: string | null
  graph_id: string | null
  settled_status: 'idle' | 'interrupted' | 'error'
  /** The interrupts that the last run left open, by task. */
  interrupts: Record<string, { id?: string }[]>
  /** Its last event. */
  last_seq: number
}

/** The thread; undefined where it is not there or may not be seen. */
export async function subject(db: Db, threadId: string, visible: Sql): Promise<Subject | undefined> {
  const row = await one(
    db.rows<Subject>(sql`select thread_id, metadata ->> 'assistant_id' as assistant_id, metadata ->> 'graph_id' as graph_id,
        settled_status, interrupts,
        greatest(last_seq, coalesce((select max(e.last_seq) from events e where e.thread_id = threads.thread_id), 0)) as last_seq
      from threads where thread_id = ${threadId}::uuid and doomed_at is null and ${visible}`),
  )
  return row && openThread(db, row, threadId)
}

/** A thread that waits for no answer, and on which no other assistant has run. */
export const startsPlain = (assistantId: string): Sql =>
  sql`threads.interrupts::text = '{}' and coalesce(threads.metadata ->> 'assistant_id', ${assistantId}) = ${assistantId}`

/** A decision that no thread can make unnecessary. */
export const never: Sql = sql`false`

/** A run that goes before a new one. */
export interface Ahead {
  run_id: string
  status: 'pending' | 'running'
  /** The interrupts that it answers by id; null where it answers none. */
  answers: string[] | null
  /** It answers whatever is open, without saying which. */
  answers_all: boolean
}

/** The thread's runs that run or could, and those that have an answer, be it for later; oldest first. Ask under the thread's
 *  lock. */
export async function ahead(db: Db, threadId: string): Promise<Ahead[]> {
  type Row = Pick<RunRow, 'run_id' | 'thread_id' | 'kwargs'> & Pick<Ahead, 'status'> & { due: boolean }
  const rows = await db.rows<Row>(sql`
    select run_id, thread_id, status, kwargs, status = 'running' or available_at <= clock_timestamp() as due
    from runs where thread_id = ${threadId}::uuid and status in ('pending', 'running') order by ordinal`)
  return rows
    .map((row) => ({ ...row, ...answersOf(openRun(db, row).kwargs) }))
    .filter(({ due, answers, answers_all }) => due || answers_all || answers !== null)
    .map(({ run_id, status, answers, answers_all }) => ({ run_id, status, answers, answers_all }))
}

function answersOf(kwargs: { command?: { resume?: unknown } }): Pick<Ahead, 'answers' | 'answers_all'> {
  const resume = kwargs.command?.resume
  const byId = typeof resume === 'object' && resume !== null && !Array.isArray(resume)
  return {
    answers: byId ? Object.keys(resume) : null,
    answers_all: resume !== undefined && resume !== null && !byId,
  }
}

/** Whether the root has this checkpoint. */
export const hasCheckpoint = async (db: Db, threadId: string, checkpointId: string): Promise<boolean> =>
  (
    await db.rows(sql`select 1 from checkpoints
      where thread_id = ${threadId}::uuid and checkpoint_ns = '' and checkpoint_id = ${checkpointId}`)
  ).length > 0

/** The namespace with the newest checkpoint among those that these segments name: one without a task id means any task. */
export const findNamespace = async (
  db: Db,
  threadId: string,
  segments: readonly string[],
): Promise<string | undefined> =>
  (
    await one(
      db.rows<{ checkpoint_ns: string }>(sql`select checkpoint_ns from checkpoints
        where thread_id = ${threadId}::uuid and cardinality(string_to_array(checkpoint_ns, '|')) = ${segments.length}
          and not exists (select 1 from unnest(string_to_array(checkpoint_ns, '|'), ${segments}::text[]) as s(is_called, wanted)
            where is_called <> wanted and (position(':' in wanted) > 0 or not starts_with(is_called, wanted || ':')))
        order by checkpoint_id desc limit 1`),
    )
  )?.checkpoint_ns

export interface CheckpointRow {
  checkpoint_id: string
  parent_checkpoint_id: string | null
  timestamp: string
  metadata: Record<string, unknown>
  /** Which channel versions each node had seen, here and at the parent. */
  seen: Record<string, unknown> | null
  seen_before: Record<string, unknown> | null
}

/** Checkpoints of a namespace, newest first. */
export const listCheckpoints = (
  db: Db,
  threadId: string,
  wanted: { checkpoint_ns: string; limit: number; before: string | undefined },
): Promise<CheckpointRow[]> =>
  db.rows(sql`select c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint ->> 'ts' as timestamp,
      ${wholeMetadata} as metadata,
      c.checkpoint -> 'versions_seen' as seen, p.checkpoint -> 'versions_seen' as seen_before
    from checkpoints c left join checkpoints p on p.thread_id = c.thread_id and p.checkpoint_ns = c.checkpoint_ns
      and p.checkpoint_id = c.parent_checkpoint_id
    where c.thread_id = ${threadId}::uuid and c.checkpoint_ns = ${wanted.checkpoint_ns}
      and ${wanted.before === undefined ? sql`true` : sql`c.checkpoint_id < ${wanted.before}`}
    order by c.checkpoint_id desc limit ${wanted.limit}`)

export interface TreeRun {
  run_id: string
  status: RunStatus
  graph_id: string
  is_last: boolean
  /** It stopped to ask. */
  asked: boolean
}

/** A run of the thread: the one that is named, else the one that runs, else the last one. */
export const treeRun = (db: Db, threadId: string, runId: string | undefined): Promise<TreeRun | undefined> =>
  one(
    db.rows(sql`select r.run_id, r.status, r.graph_id,
        not exists (select 1 from runs later where later.thread_id = r.thread_id and later.ordinal > r.ordinal
          and later.started_at is not null) as is_last,
        exists (select 1 from checkpoint_writes w where w.thread_id = r.thread_id and w.checkpoint_ns = ''
          and w.channel = '__interrupt__' and r.run_id in (w.run_id, w.replaced_run_id)
          and w.checkpoint_id = (select max(c.checkpoint_id) from checkpoints c where c.thread_id = r.thread_id
            and c.checkpoint_ns = '' and c.run_id = r.run_id)) as asked
      from runs r where r.thread_id = ${threadId}::uuid
        and ${runId === undefined ? sql`true` : sql`r.run_id = ${runId}::uuid`}
      order by r.status = 'running' desc, r.ordinal desc limit 1`),
  )

/** The namespaces in which a run wrote checkpoints, in the order of their first, with their last. */
export const namespacesOfRun = (db: Db, runId: string): Promise<{ checkpoint_ns: string; last: string }[]> =>
  db.rows(sql`select checkpoint_ns, max(checkpoint_id) as last from checkpoints where run_id = ${runId}::uuid
    group by checkpoint_ns order by min(checkpoint_id)`)
