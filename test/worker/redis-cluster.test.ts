// Two processes over a Redis cluster with a prefix of their own: hints arrive at once, and under names of this deployment only.

import { createClient } from 'redis'
import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRedis } from '../../scripts/servers.mjs'
import { readEnvironment } from '../../src/config.ts'
import { named } from '../api/run-server.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { startServer, type TestServer } from '../support/stacks.ts'
import { until } from '../support/until.ts'

let cluster: Awaited<ReturnType<typeof startRedis>>
let database: TestDatabase
const servers: TestServer[] = []
beforeAll(async () => {
  ;[cluster, database] = await Promise.all([startRedis({ cluster: true }), createDatabase()])
})
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()))
  await database.drop()
  await cluster.stop()
})

test('a run made on one process runs on the other and is told of live, over sharded channels with the prefix', async () => {
  const { redis } = readEnvironment({
    DATABASE_URI: database.uri,
    REDIS_URI: cluster.uri,
    REDIS_CLUSTER: 'true',
    REDIS_KEY_PREFIX: 'blue:',
  })
  const { graphs, gates } = createRunGraphs()
  const start = async (role: 'api' | 'worker') => {
    const server = await startServer({ graphs, role, database: { uri: database.uri }, redis: redis as never })
    servers.push(server)
    return server
  }
  const [api, worker] = [await start('api'), await start('worker')]
  expect(await (await api.request('GET', '/ok?check_db=1')).json()).toMatchObject({ services: { bus: 'up' } })
  const admin = createClient({ url: cluster.uri })
  await admin.connect()
  try {
    const { thread_id: threadId } = await api.client.threads.create()
    const gate = v7()
    const body = { assistant_id: 'steps', input: { log: ['in'], hold: { second: gate } }, stream_mode: 'updates' }
    const stream = readEvents(await api.request('POST', `/threads/${threadId}/runs/stream`, body))
    await gates.reached(gate)
    const channels = (await admin.sendCommand(['PUBSUB', 'SHARDCHANNELS'])) as string[]
    expect(channels.length).toBeGreaterThan(1)
    expect(channels.filter((name) => !name.startsWith('blue:'))).toEqual([])
    expect(channels.some((name) => name.includes(threadId))).toBe(true)
    gates.open(gate)
    expect(named(await stream.rest()).map(([name]) => name)).toEqual([
      'metadata',
      'updates',
      'updates',
      'updates',
      'end',
    ])

    const held = v7()
    const run = await api.client.runs.create(threadId, 'steps', { input: { log: [], hold: { first: held } } })
    await gates.reached(held)
    await api.client.runs.cancel(threadId, run.run_id, true)
    const settled = worker.seen.some((one) => one.kind === 'run_settled' && one.run_id === run.run_id)
    expect([settled, (await api.client.runs.get(threadId, run.run_id)).status]).toEqual([true, 'interrupted'])

    // Nothing of it is left to keep: it all lives in Postgres.
    expect(await admin.dbSize()).toBe(0)
    const failed = [api, worker].flatMap(({ seen }) => seen.filter(({ kind }) => kind === 'bus_failed'))
    expect(failed).toEqual([])
    await until('who followed has left', async () =>
      ((await admin.sendCommand(['PUBSUB', 'SHARDCHANNELS'])) as string[]).every((name) => !name.includes(threadId)),
    )
  } finally {
    admin.destroy()
  }
})
