// Crons over real processes: one that dies while it fires, and two that fire together.

import { Client } from '@langchain/langgraph-sdk'
import pg from 'pg'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { heddle, makeProject, type Running } from '../support/cli.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { until } from '../support/until.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const graph = `
import { Annotation, StateGraph } from '@langchain/langgraph'
export const graph = new StateGraph(Annotation.Root({ seen: Annotation }))
  .addNode('look', () => ({ seen: true }))
  .addEdge('__start__', 'look').addEdge('look', '__end__').compile()
`
const project = makeProject({
  'graph.mjs': graph,
  'langgraph.json': JSON.stringify({ graphs: { look: './graph.mjs:graph' } }),
})
const running: Running[] = []
let database: TestDatabase
let sql: pg.Client
beforeAll(async () => {
  database = await createDatabase()
  sql = new pg.Client({ connectionString: database.uri })
  await sql.connect()
})
afterAll(async () => {
  await Promise.all(running.map((server) => server.stop('SIGKILL')))
  await sql.end()
  await database.drop()
  project.remove()
})

const begin = async (role: 'api' | 'worker', env: Record<string, string> = {}) => {
  const port = role === 'api' ? ['--port', '0'] : []
  const args = ['start', '--config', project.config, '--host', '127.0.0.1', '--role', role, ...port]
  const server = heddle(args, { env: { DATABASE_URI: database.uri, ...env } })
  running.push(server)
  if (role === 'worker') await server.shown(/works on runs/)
  const apiUrl = role === 'api' ? ((await server.shown(/^Heddle \S+ on (\S+) \(role/m))[1] as string) : ''
  return { server, client: new Client({ apiUrl }) }
}

/** Has every cron be due now, at the minute that has begun; gives that minute. */
async function makeDue(): Promise<string> {
  const { rows } = await sql.query(`update crons set next_run_date = date_trunc('minute', clock_timestamp())
    returning to_char(next_run_date at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI') as slot`)
  return rows[0].slot
}

/** How many runs there are for each slot of a cron. */
async function runsOf(cronIds: readonly string[]): Promise<{ cron_id: string; slot: string; runs: number }[]> {
  const { rows } = await sql.query(
    `select metadata ->> 'cron_id' as cron_id, left(metadata ->> 'cron_slot', 16) as slot, count(*)::int as runs from runs
      where metadata ->> 'cron_id' = any($1) group by 1, 2 order by 1, 2`,
    [cronIds],
  )
  return rows
}

test('a process that is killed between creating a run and recording it leaves nothing, and another fires the slot once', async () => {
  const { client } = await begin('api')
  const cron = { schedule: '* * * * *', onRunCompleted: 'keep' as const }
  const { cron_id } = await client.crons.create('look', cron)
  const { server } = await begin('worker', { HEDDLE_FAILPOINTS: 'cron_after_claim=kill9' })
  const killedAt = await makeDue()
  expect((await server.ended).code).toBeNull()
  expect(await runsOf([cron_id])).toEqual([])

  await begin('worker')
  const found = await until('the cron has fired', async () => (await runsOf([cron_id])).at(0), 30_000)
  // The minute that was killed, unless the next one has come meanwhile.
  expect(found.runs).toBe(1)
  expect(found.slot >= killedAt).toBe(true)
  await client.crons.delete(cron_id)
})

test('two processes create one run for each of many crons that are due together', async () => {
  const { client } = await begin('api')
  await begin('worker')
  const cron = { schedule: '* * * * *', onRunCompleted: 'keep' as const }
  const made = await Promise.all(Array.from({ length: 300 }, () => client.crons.create('look', cron)))
  const ids = made.map(({ cron_id }) => cron_id)
  const slot = await makeDue()
  const isFired = async () => new Set((await runsOf(ids)).map(({ cron_id }) => cron_id)).size === ids.length
  await until('every cron has fired', isFired, 60_000)
  for (const cronId of ids) await client.crons.update(cronId, { enabled: false })
  const found = await runsOf(ids)
  expect(found.filter(({ runs }) => runs !== 1)).toEqual([])
  expect(found.filter((one) => one.slot < slot)).toEqual([])
})
