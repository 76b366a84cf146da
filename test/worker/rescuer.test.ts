// Rescue and deletion of many at once, on a real server: few rows are locked at a time and always in one order, and one that
// cannot be dealt with does not hold up the others.

import { v7 } from 'uuid'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database, Db } from '../../src/db/db.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as retention from '../../src/db/retention.ts'
import { all, sql } from '../../src/db/sql.ts'
import type { Observation } from '../../src/observe.ts'
import { rescue } from '../../src/worker/rescuer.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

let made: TestDatabase
let db: Database
beforeAll(async () => {
  made = await createDatabase()
  db = await openDatabase({ uri: made.uri }, () => {})
})
beforeEach(() => db.rows(sql`delete from threads`))
afterAll(async () => {
  await db.close()
  await made.drop()
})

/** Runs that are held by a worker which does not live. */
async function orphans(count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => v7())
  for (const id of ids) {
    await db.rows(sql`insert into threads (thread_id, metadata, held_by, epoch) values (${id}, '{}', ${id}, 1)`)
    await db.rows(sql`insert into runs (run_id, thread_id, assistant_id, graph_id, status, attempt, metadata, kwargs,
      multitask_strategy, worker_id) values (${id}, ${id}, ${v7()}, 'g', 'running', 1, '{}', '{}', 'enqueue', ${v7()})`)
  }
  return ids
}
const statuses = async () =>
  (
    await db.rows<{ status: string; n: number }>(
      sql`select status, count(*) as n from runs group by status order by status`,
    )
  ).map(({ status, n }) => [status, n])

test('many lost runs are rescued in one round, a few in each transaction', async () => {
  await orphans(35)
  const sizes: number[] = []
  const counting: Db = {
    ...db,
    tx: (work) =>
      db.tx((tx) =>
        work({
          ...tx,
          rows: async <T>(query: Parameters<Db['rows']>[0]) => {
            const rows = await tx.rows<T>(query)
            if (query.text.includes('skip locked')) sizes.push(rows.length)
            return rows
          },
        }),
      ),
  }
  const seen: Observation[] = []
  const observe = (one: Observation) => void seen.push(one)
  expect(await rescue({ db: counting, bus: createMemoryBus(), observe, maxAttempts: 3 })).toBe(35)
  expect(sizes).toEqual([10, 10, 10, 5])
  expect(await statuses()).toEqual([['pending', 35]])
  expect(seen.flatMap((one) => (one.kind === 'runs_rescued' ? one.run_ids : []))).toHaveLength(35)
})

test('one that cannot be rescued is passed over, and the others are', async () => {
  const ids = await orphans(25)
  const stuck = ids[3] as string
  await db.rows(sql`create function refuse() returns trigger language plpgsql as
    'begin if old.run_id::text = tg_argv[0] then raise exception ''not this one''; end if; return new; end'`)
  await db.script(`create trigger refuse before update on runs for each row execute function refuse('${stuck}')`)
  try {
    const round = rescue({ db, bus: createMemoryBus(), observe: () => {}, maxAttempts: 3 })
    await expect(round).rejects.toThrow('not this one')
    expect(await statuses()).toEqual([
      ['pending', 24],
      ['running', 1],
    ])
  } finally {
    await db.script('drop trigger refuse on runs; drop function refuse')
  }
})

test('threads that are deleted while others lock them too are locked in one order: nobody waits for ever', async () => {
  const deadlocks = async () => {
    const [row] = await db.rows<{ n: number }>(
      sql`select deadlocks as n from pg_stat_get_db_deadlocks((select oid from pg_database where datname = current_database())) as deadlocks`,
    )
    return row?.n as number
  }
  const before = await deadlocks()
  for (let round = 0; round < 15; round++) {
    // Stored against the order of their ids, which is the order that a deletion would meet them in.
    const ids = Array.from({ length: 200 }, () => v7())
    const reversed = ids.toReversed()
    await db.rows(sql`insert into threads (thread_id, metadata) select id, '{}' from unnest(${reversed}::uuid[]) as id`)
    const lock = () =>
      db.rows(sql`select 1 from threads where thread_id = any(${ids}::uuid[]) order by thread_id for no key update`)
    const [, pruned] = await Promise.all([lock(), retention.prune(db, reversed, 'delete', all), lock(), lock()])
    expect(pruned).toBe(200)
  }
  expect((await deadlocks()) - before).toBe(0)
})
