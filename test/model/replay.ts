// The model's steps done to a real database by the code itself, and the rows that come of it in the model's words, so that the two
// can be compared after each step. One thread; names of workers and numbers of runs become ids here.

import { v7 } from 'uuid'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { RunCreate } from '../../src/contract/runs.ts'
import type { Db } from '../../src/db/db.ts'
import * as events from '../../src/db/events.ts'
import { commit, type Settlement } from '../../src/db/journal.ts'
import * as queue from '../../src/db/queue.ts'
import * as runs from '../../src/db/runs.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as threads from '../../src/db/threads.ts'
import { createRegistry, defaultAssistantId } from '../../src/graph/registry.ts'
import { silent } from '../../src/observe.ts'
import { cancelRun } from '../../src/runs/cancel.ts'
import { createRun } from '../../src/runs/create.ts'
import { rollBack } from '../../src/runs/execute.ts'
import { transitions } from '../../src/runs/lifecycle.ts'
import { END, encodeBatch, lastEvents } from '../../src/runs/log.ts'
import { rescue } from '../../src/worker/rescuer.ts'
import type { Call } from './actions.ts'
import type { Entry, State } from './state.ts'

const cancels = ['', 'interrupt', 'rollback']

/** A thread's rows, in the model's words. */
export interface Rows {
  thread: { held_by: number; epoch: number; last_seq: number } | null
  runs: (RunRows | null)[]
}
interface RunRows {
  /** `removed` while something of it is left. */
  status: string
  worker: number
  attempt: number
  cancel: string
  checkpoints: number
  /** The last seq of its events, and how many of them are ends. */
  top: number
  ends: number
}

/** What the model says the rows are. */
export const rowsOf = (s: State): Rows => ({
  thread: s.exists ? { held_by: s.heldBy, epoch: s.epoch, last_seq: s.lastSeq } : null,
  runs: s.runs.map((run) => {
    const { status, worker, attempt, cancel, progress, top } = run
    const left = { checkpoints: progress, top, ends: top === 0 ? 0 : run.ends }
    if (status !== 'none' && status !== 'removed')
      return { status, worker, attempt, cancel: cancels[cancel] ?? '', ...left }
    return progress + top === 0 ? null : { status: 'removed', worker: 0, attempt: 0, cancel: '', ...left }
  }),
})

export interface Replay {
  /** Does what the call stands for; throws when the code gives something else back than the model. */
  act(call: Call): Promise<void>
  rows(count: number): Promise<Rows>
  end(): Promise<void>
}

/** Replays on a thread of its own; the database must hold nothing else that waits or runs. */
export async function createReplay(db: Db, maxAttempts: number): Promise<Replay> {
  const bus = createMemoryBus()
  const thread_id = v7()
  await threads.create(db, { thread_id }, 'raise', all)
  await db.rows(sql`update threads set epoch = 0 where thread_id = ${thread_id}`)
  const [runIds, names] = [new Map<number, string>(), new Map<number, string>()]
  const idIn = (ids: Map<number, string>, key: number): string => {
    const id = ids.get(key) ?? v7()
    ids.set(key, id)
    return id
  }
  const run = (i: number) => idIn(runIds, i)
  const name = (n: number) => idIn(names, n)
  const keyIn = (ids: Map<number, string>, id: unknown) => [...ids].find(([, known]) => known === id)?.[0]
  const held = (i: number, epoch: number) => ({ run_id: run(i), thread_id, epoch })
  const graphs = [{ graph_id: 'model', description: null }]
  const deps = {
    db,
    registry: createRegistry({ executor: { graphs: () => graphs } }),
    known: new Map(),
    durability: 'sync' as const,
  }
  for (const known of [1, 2]) await queue.renew(db, name(known), 600, ['model'])

  const acts: { [K in Call['call']]: (call: Of<K>) => Promise<unknown> } = {
    renew: (call) => queue.renew(db, name(call.name), 600, ['model']),
    expire: (call) =>
      db.rows(
        sql`update workers set lease_until = clock_timestamp() - interval '1 second' where worker_id = ${name(call.name)}`,
      ),
    async claim({ claimed, name: by }) {
      const [given] = await queue.claim(db, name(by), 1, ['model'])
      const got = given && [keyIn(runIds, given.run_id), given.epoch, given.last_seq, given.attempt]
      same(got, [claimed.run, claimed.epoch, claimed.seq, claimed.attempt])
    },
    async disown(call) {
      same(await queue.heldBy(db, name(call.name)), [{ run_id: run(call.run) }])
      same(await queue.disown(db, name(call.name), [run(call.run)]), [{ run_id: run(call.run) }])
    },
    rescue: async () => same(await rescue({ db, bus, observe: silent, maxAttempts }), 1),
    commit: async ({ entry, result }) =>
      same(
        (await commit(db, [{ ...held(entry.run, entry.epoch), ...written(thread_id, entry) }])).get(0) ?? 'unheld',
        result,
      ),
    rollBack: (call) => rollBack(db, { ...held(call.run, call.epoch), temporary: false }),
    requeue: (call) => queue.requeue(db, [held(call.run, call.epoch)], { uncharge: call.uncharge }),
    async create(call) {
      const ids = { run_id: run(call.run), thread_id }
      const request = { thread_id, visible: all, body: bodyOf(call.strategy) }
      const { claimed } = await createRun(deps, request, ids, call.name === 0 ? null : name(call.name))
      const expected = call.claimed && [call.claimed.epoch, call.claimed.seq, call.claimed.attempt]
      same(claimed && [claimed.epoch, claimed.last_seq, claimed.attempt], expected)
    },
    cancel: (call) =>
      cancelRun({ db, bus }, { thread_id, run_id: run(call.run), action: call.action, reason: 'asked', visible: all }),
    removeRun: async (call) => same(await runs.remove(db, run(call.run)), [{ run_id: run(call.run) }]),
    prune: () => events.prune(db, 0, 1_000),
    removeThread: () => threads.remove(db, thread_id, all),
  }

  return {
    act: async (call) => void (await (acts[call.call] as (call: Call) => Promise<unknown>)(call)),
    async rows(count) {
      const [thread] = await db.rows<{ held_by: string | null; epoch: number; last_seq: number }>(
        sql`select held_by, epoch, last_seq from threads where thread_id = ${thread_id}`,
      )
      const ids = Array.from({ length: count }, (_, i) => run(i))
      const found = await db.rows<RunRows & { worker: unknown }>(sql`select coalesce(r.status, 'removed') as status,
          r.worker_id as worker, coalesce(r.attempt, 0) as attempt, coalesce(r.cancel_action, '') as cancel,
          (select count(*) from checkpoints c where c.run_id = n.id) as checkpoints,
          (select coalesce(max(e.last_seq), 0) from events e where e.run_id = n.id) as top,
          (select count(*) from events e where e.run_id = n.id and strpos(e.batch, ${END}) > 0) as ends
        from unnest(${ids}::uuid[]) with ordinality as n(id, i) left join runs r on r.run_id = n.id order by n.i`)
      const all = found.map((row) =>
        row.status === 'removed' && row.checkpoints + row.top === 0
          ? null
          : { ...row, worker: keyIn(names, row.worker) ?? 0 },
      )
      return { thread: thread ? { ...thread, held_by: keyIn(runIds, thread.held_by) ?? -1 } : null, runs: all }
    },
    async end() {
      await db.rows(sql`delete from threads where thread_id = ${thread_id}`)
      await db.rows(sql`delete from workers`)
      await bus.close()
    },
  }
}

/** The call of a name; some names share a type. */
type Of<K extends Call['call']> = Call extends infer One
  ? One extends { call: infer C }
    ? K extends C
      ? One
      : never
    : never
  : never

const bodyOf = (multitask_strategy: RunCreate['multitask_strategy']): RunCreate => ({
  assistant_id: defaultAssistantId('model'),
  config: {},
  metadata: {},
  stream_mode: ['values'],
  stream_subgraphs: false,
  stream_resumable: false,
  after_seconds: 0,
  strict_resume: false,
  on_disconnect: 'continue',
  multitask_strategy,
  if_not_exists: 'reject',
  on_completion: 'keep',
})

/** What the journal would write for a batch of the model. */
function written(thread_id: string, { run, first, count, kind }: Entry) {
  const last_seq = first + count - 1
  if (kind === 'put' || kind === '') {
    const batch = encodeBatch([{ event: 'values', data: '{}' }])
    const checkpoint_id = `${run}`
    const place = { thread_id, checkpoint_ns: '', checkpoint_id, parent_checkpoint_id: null }
    const put = { ...place, checkpoint: { channel_versions: {} }, metadata: {}, values: [] }
    return {
      events: { first_seq: first, last_seq, at: 0, batch, base: null, size: null },
      puts: [put],
      writes: [],
      settle: undefined,
    }
  }
  const status = transitions.running[kind] as Settlement['status']
  const error = count > 1 ? { error: 'Error', message: 'of the model' } : null
  const batch = encodeBatch(lastEvents(status, error))
  const settled_status = error === null ? ('idle' as const) : ('error' as const)
  const settle = { status, error, values: '{}', interrupts: {}, settled_status, last_seq, doom: false }
  return { events: { first_seq: first, last_seq, at: 0, batch, base: null, size: null }, puts: [], writes: [], settle }
}

function same(got: unknown, expected: unknown): void {
  if (JSON.stringify(got) !== JSON.stringify(expected))
    throw new Error(`the code gave ${JSON.stringify(got)}, the model ${JSON.stringify(expected)}`)
}
