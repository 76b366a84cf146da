// A Postgres that crashes again and again: what was accepted is kept, and done once.

import { expect, test, vi } from 'vitest'
import { type Server, startPostgres } from '../../scripts/servers.mjs'
import { until } from '../support/until.ts'
import { allWell, insist, type Run, start } from './rows/insist.ts'
import { createStage } from './rows/stage.ts'

vi.setConfig({ testTimeout: 90_000 })

let postgres: Server
const stage = createStage(async () => {
  postgres = await startPostgres()
  return { uri: postgres.uri, drop: () => postgres.stop() }
})

test('row 23: over four crashes of Postgres under load, requests are answered or told to come again, and nothing accepted is lost', async () => {
  const servers = [await stage.heddle(), await stage.heddle()] as const
  const runs: Run[] = []
  let crashing = true
  const client = async (number: number) => {
    const server = servers[number % 2] ?? servers[0]
    while (crashing || runs.length < 40) {
      const asked = performance.now()
      const answer = await insist(server, '/threads', { metadata: { number } })
      expect(answer.status).toBe(200)
      runs.push(await start(server, ((await answer.json()) as { thread_id: string }).thread_id))
      expect(performance.now() - asked).toBeLessThan(20_000)
    }
  }
  const clients = Promise.all([0, 1, 2, 3].map(client))
  for (let crash = 0; crash < 4; crash++) {
    const before = runs.length
    await until('more is accepted', () => runs.length >= before + 10, 20_000)
    await postgres.crash()
    await postgres.restart()
  }
  crashing = false
  await clients
  await allWell(stage, servers, runs, true)
  expect(servers.some(({ seen }) => seen.some(({ kind }) => kind === 'database_failed'))).toBe(true)
})
