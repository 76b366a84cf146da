// Connections to Postgres that break, and answers that never come: whatever was accepted ends once, and nothing is there twice.

import { v7 } from 'uuid'
import { expect, test, vi } from 'vitest'
import type { TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'
import { createFaultyDriver } from './rows/driver.ts'
import { allWell, eventsOf, insist, type Run, start } from './rows/insist.ts'
import { createDice, createStage, newThread, settlements } from './rows/stage.ts'

vi.setConfig({ testTimeout: 60_000 })

const stage = createStage()
const driver = createFaultyDriver()

test('row 24: when every session of Postgres is ended, five times, pools and listeners come back and no run is lost', async () => {
  const { made } = stage
  const servers = [await stage.heddle(), await stage.heddle({ role: 'worker' })]
  const [api] = servers as [TestServer]
  const runs: Run[] = []
  for (let round = 0; round < 5; round++) {
    const gate = v7()
    for (let i = 0; i < 4; i++) {
      const answer = await insist(api, '/threads', { metadata: { round } })
      const { thread_id } = (await answer.json()) as { thread_id: string }
      runs.push(await start(api, thread_id, { hold: { second: gate } }))
    }
    await made.gates.reached(gate, 4)
    const ended = await stage.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`)
    expect(ended.length).toBeGreaterThan(0)
    made.gates.open(gate)
  }
  await allWell(stage, servers, runs)
  const listening = `select 1 from pg_stat_activity where datname = current_database() and application_name = 'heddle notify'`
  await until('both listen again', async () => (await stage.query(listening)).length === 2)
})

test.each([
  ['the commit of a creation', /^commit$/],
  ['a creation on a free thread', /insert into runs/],
  ['a claim', /^with next as/],
  ['a batch of a run', /^with recursive fence as .* written_events/s],
  ['the settlement of a run', /^with recursive fence as .* settled as/s],
  ['a renewal of the lease', /^insert into workers/],
] as const)('row 25: when %s is done and its answer is swallowed, it counts once', async (_, statement) => {
  const server = await stage.heddle({ database: { uri: driver.through(stage.uri()) } })
  const first = await newThread(server)
  let swallowed = 0
  driver.faults((text) => {
    if (swallowed > 0 || !statement.test(text)) return undefined
    swallowed++
    return 'done and lost'
  })
  // The second waits for the first, so that it is claimed.
  const runs = [await start(server, first)]
  const second = await insist(server, `/threads/${first}/runs`, {
    assistant_id: 'steps',
    input: { log: ['again'] },
    stream_mode: 'updates',
  })
  runs.push((await second.json()) as Run)
  await until('it was swallowed', () => swallowed > 0)
  for (const run of runs) await server.client.runs.join(first, run.run_id)
  expect(await stage.query('select status, count(*)::int from runs group by 1')).toEqual([
    { status: 'success', count: 2 },
  ])
  expect(await stage.query(`select "values" -> 'log' as log from threads`)).toEqual([
    { log: ['in', 'first', 'second', 'third', 'again', 'first', 'second', 'third'] },
  ])
  for (const run of runs) {
    const told = (await eventsOf(server, run)).flatMap(({ event, data }) =>
      event === 'updates' ? Object.keys(data) : [],
    )
    expect(told).toEqual(['first', 'second', 'third'])
    expect(settlements([server], run.run_id).length).toBeLessThanOrEqual(1)
  }
})

test('row 28: with one statement in ten failing, half of them after they were done, every accepted run ends once and well', async () => {
  const uri = driver.through(stage.uri())
  const config = { maxAttempts: 10 }
  const servers = [
    await stage.heddle({ database: { uri }, config }),
    await stage.heddle({ database: { uri }, config, role: 'worker' }),
  ]
  const [api] = servers as [TestServer]
  const dice = createDice(28)
  const codes = ['40001', '40P01', '55P03', '57P01', '57P03']
  driver.faults((text) => {
    const roll = dice.below(100)
    if (roll < 5) return 'done and lost'
    if (roll >= 10) return undefined
    // What begins and ends a transaction fails with its connection only.
    return /^(begin|commit|rollback)$/.test(text) || roll < 6
      ? 'lost'
      : { refuse: codes[dice.below(codes.length)] as string }
  })
  const runs: Run[] = []
  const client = async () => {
    for (let i = 0; i < 5; i++) {
      const answer = await insist(api, '/threads', { thread_id: v7(), if_exists: 'do_nothing' })
      expect(answer.status).toBe(200)
      runs.push(await start(api, ((await answer.json()) as { thread_id: string }).thread_id))
    }
  }
  await Promise.all(Array.from({ length: 8 }, client))
  await until(
    'all have ended',
    async () => (await stage.query(`select 1 from runs where status in ('pending', 'running') limit 1`)).length === 0,
    30_000,
  )
  expect(driver.counts['done and lost']).toBeGreaterThan(10)
  expect(driver.counts['40001']).toBeGreaterThan(0)
  driver.faults()
  await allWell(stage, servers, runs)
})
