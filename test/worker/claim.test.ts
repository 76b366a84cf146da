// What a claim looks at, on a database that has no statistics: a new one, and an embedded one for ever.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as queue from '../../src/db/queue.ts'
import { sql } from '../../src/db/sql.ts'

/** An embedded database with runs that wait, each on a thread of its own. */
async function withWaiting(count: number) {
  const db = await openDatabase({ memory: true }, () => {})
  await migrate(db)
  await db.rows(
    sql`insert into threads (thread_id, metadata) select gen_random_uuid(), '{}' from generate_series(1, ${count}::int)`,
  )
  await db.rows(sql`insert into runs (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs, multitask_strategy)
    select gen_random_uuid(), thread_id, gen_random_uuid(), 'g', 'pending', '{}', '{}', 'enqueue' from threads`)
  return db
}

test('a claim goes from the runs that wait to their threads, and over no table', async () => {
  const db = await withWaiting(500)
  const query = queue.claimQuery(v7(), 10, ['g'])
  const plan = await db.rows<{ 'QUERY PLAN': string }>(sql`explain (analyze, timing off, summary off) ${query}`)
  const text = plan.map((line) => line['QUERY PLAN']).join('\n')
  expect(text).not.toMatch(/Seq Scan/)
  await db.close()
})

test('what is claimed together comes in the order of its creation, whatever the plan', async () => {
  const db = await withWaiting(300)
  await db.script(
    'update runs set temporary = false where ordinal % 2 = 1; analyze; set enable_nestloop = off; set enable_mergejoin = off',
  )
  const order = await db.rows<{ run_id: string }>(sql`select run_id from runs order by ordinal`)
  const claimed = await queue.claim(db, v7(), 200, ['g'])
  expect(claimed.map(({ run_id }) => run_id)).toEqual(order.slice(0, 200).map(({ run_id }) => run_id))
  await db.close()
})
