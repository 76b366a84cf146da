// What happens to a database over time: it is migrated while it serves, by newer versions than those that run, and somebody
// keeps a transaction open for long.

import { readFileSync } from 'node:fs'
import { v7 } from 'uuid'
import { expect, test, vi } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import * as queue from '../../src/db/queue.ts'
import { sql } from '../../src/db/sql.ts'
import { silent } from '../../src/observe.ts'
import { createDatabase } from '../support/databases.ts'
import { startServer } from '../support/stacks.ts'
import { createStage, joinOn, newThread, settlements } from './rows/stage.ts'

vi.setConfig({ testTimeout: 60_000 })

const stage = createStage()

test('row 22: what the first version left behind, in the middle of its work, is served by this one', async () => {
  const database = await createDatabase({ migrated: false })
  stage.after(database.drop)
  const first = '0001_begin'
  const old = await openDatabase({ uri: database.uri, poolSize: 1 }, silent)
  await old.script(readFileSync(new URL(`../../src/db/migrations/${first}.sql`, import.meta.url), 'utf8'))
  await old.script(`create table heddle_migrations (name text primary key, applied_at timestamptz not null default now());
    insert into heddle_migrations (name) values ('${first}')`)
  await old.script(readFileSync(new URL('rows/first-version.sql', import.meta.url), 'utf8'))
  // As if it had been killed a moment ago: what is old is swept.
  await old.script('update events set created_at = now(); update runs set ended_at = now() where ended_at is not null')
  await old.close()
  const { made } = stage
  made.gates.open('gate')
  const server = await startServer({
    graphs: made.graphs,
    database: { uri: database.uri },
    config: { leaseSeconds: 2, shutdownGraceSeconds: 0.05 },
  })
  stage.after(server.close)
  const { client } = server
  const [done, asks, runs] = [1, 2, 3].map((n) => `00000000-0000-4000-8000-00000000000${n}`) as [string, string, string]
  const steps = ['first', 'second', 'third']

  const history = await client.threads.getHistory<{ log: string[] }>(done, { limit: 100 })
  expect(history[0]?.values.log).toEqual(['one', ...steps, 'two', ...steps])
  expect(history.map(({ values }) => values.log?.length ?? 0)).toEqual([8, 7, 6, 5, 4, 4, 3, 2, 1, 0])
  const [second] = await client.runs.list(done)
  const log = await (await joinOn(server, { thread_id: done, run_id: String(second?.run_id) }, '-1')).rest()
  expect(log.map(({ event }) => event)).toEqual(['metadata', 'values', 'values', 'values', 'values', 'end'])
  expect(await client.runs.wait(done, 'steps', { input: { log: ['new'] } })).toMatchObject({
    log: ['one', ...steps, 'two', ...steps, 'new', ...steps],
  })

  expect(await client.threads.get(asks)).toMatchObject({ status: 'interrupted', metadata: { title: 'asks' } })
  expect(await client.runs.wait(asks, 'approve', { command: { resume: 'yes' } })).toMatchObject({
    log: ['asked lunch: "yes"', 'acted'],
  })

  const [behind, under] = await client.runs.list(runs)
  expect(await client.runs.join(runs, String(behind?.run_id))).toMatchObject({
    log: ['three', ...steps, 'four', ...steps],
  })
  expect((await client.runs.get(runs, String(under?.run_id))).status).toBe('success')
  expect(made.ran.filter(({ run_id }) => run_id === under?.run_id)).toEqual(
    ['second', 'third'].map((node) => ({ node, run_id: under?.run_id, attempt: 2 })),
  )

  const [kept] = await client.assistants.search({ metadata: { kept: 1 } })
  expect(await client.assistants.getVersions(String(kept?.assistant_id))).toHaveLength(2)
  expect((await client.store.getItem(['kept', 'here'], 'key'))?.value).toEqual({ value: 1 })
})

test('row 22: while a newer version migrates, this one goes on serving, before, during and after', async () => {
  const servers = [await stage.heddle(), await stage.heddle()]
  const migrator = await stage.connect()
  let phase: 'before' | 'during' | 'after' | 'over' = 'before'
  const ended = { before: 0, during: 0, after: 0, over: 0 }
  const failures: unknown[] = []
  const runs: string[] = []
  const client = async (number: number) => {
    const { client } = servers[number % 2] as (typeof servers)[0]
    while (phase !== 'over') {
      const began = phase
      try {
        const threadId = (await client.threads.create({ metadata: { began } })).thread_id
        const values = await client.runs.wait(threadId, 'steps', { input: { log: ['in'] } })
        expect(values).toEqual({ log: ['in', 'first', 'second', 'third'] })
        for (const { run_id } of await client.runs.list(threadId)) runs.push(run_id)
        ended[began]++
      } catch (error) {
        failures.push(error)
        return
      }
    }
  }
  const reach = async (which: keyof typeof ended, count: number) =>
    vi.waitFor(() => expect(failures.length > 0 || ended[which] >= count).toBe(true), { timeout: 20_000, interval: 5 })
  const clients = [0, 1, 2, 3].map(client)
  await reach('before', 20)
  const tables = (
    await migrator.query(
      `select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by relname`,
    )
  ).rows.map(({ relname }) => relname as string)
  expect(tables.length).toBeGreaterThan(10)
  phase = 'during'
  // One table after the other, as numbered migrations do, each with what may be added without breaking who knows nothing of it.
  for (const table of tables) {
    await migrator.query(`alter table ${table} add column later text not null default 'x', add column last jsonb`)
    await migrator.query(`create index on ${table} (later)`)
  }
  await migrator.query(`insert into heddle_migrations (name) values ('9999_later')`)
  await reach('during', 1)
  phase = 'after'
  await reach('after', 20)
  phase = 'over'
  await Promise.all(clients)
  expect(failures).toEqual([])
  expect(await stage.query('select status, count(*)::int from runs group by 1')).toEqual([
    { status: 'success', count: runs.length },
  ])
  for (const id of runs) expect(settlements(servers, id)).toEqual(['success'])
  for (const table of tables) {
    await migrator.query(`alter table ${table} drop column later, drop column last`)
  }
  await migrator.query(`delete from heddle_migrations where name = '9999_later'`)
})

test('row 31: behind a transaction that stays open, claiming a run stays a matter of milliseconds', async () => {
  const db = await stage.database()
  const name = v7()
  const insert = (count: number) =>
    stage.query(
      `with t as (insert into threads (thread_id, metadata) select gen_random_uuid(), '{}' from generate_series(1, $1)
          returning thread_id)
        insert into runs (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs, multitask_strategy)
        select gen_random_uuid(), thread_id, gen_random_uuid(), 'g', 'pending', '{}', '{}', 'enqueue' from t`,
      [count],
    )
  /** Claims and ends what waits; gives how long the claims took. */
  const work = async (batch: number) => {
    const taken: number[] = []
    for (;;) {
      const began = performance.now()
      const ids = (await queue.claim(db, name, batch, ['g'])).map(({ run_id }) => run_id)
      taken.push(performance.now() - began)
      if (ids.length === 0) return taken.toSorted((a, b) => a - b)
      await db.rows(sql`with t as (update threads set held_by = null where held_by = any(${ids}::uuid[]))
        update runs set status = 'success', worker_id = null where run_id = any(${ids}::uuid[])`)
    }
  }
  const open = await stage.connect()
  await open.query('begin isolation level repeatable read')
  await open.query('select count(*) from runs')
  // None of what these leave behind can be cleaned away now.
  await insert(2_000)
  await work(100)
  await insert(30)
  const claims = await work(1)
  expect(claims).toHaveLength(31)
  expect(claims[15]).toBeLessThan(50)
  await open.query('commit')
  const newest = await newThread(await stage.heddle())
  expect(newest).toEqual(expect.any(String))
})
