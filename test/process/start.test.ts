// `heddle start` as production runs it: several processes on one Postgres, with Redis and without. What is tried is that they
// come up, work together and go.

import { fileURLToPath } from 'node:url'
import { Client } from '@langchain/langgraph-sdk'
import { afterEach, describe, expect, test } from 'vitest'
import { heddle, type Running } from '../support/cli.ts'
import { createDatabase, needed, type TestDatabase } from '../support/databases.ts'

const config = fileURLToPath(new URL('../../examples/langgraph.json', import.meta.url))
const input = { messages: [{ role: 'user', content: 'hello' }] }

describe.each(['redis', 'postgres'])('with hints over %s', (bus) => {
  const running: Running[] = []
  let database: TestDatabase | undefined
  const start = (...args: string[]) => {
    const env = { DATABASE_URI: database?.uri ?? '', ...(bus === 'redis' && { REDIS_URI: needed('TEST_REDIS_URI') }) }
    const process = heddle(['start', '--config', config, '--host', '127.0.0.1', '--port', '0', ...args], { env })
    running.push(process)
    return process
  }
  const addressOf = async (process: Running) => (await process.shown(/(http:\/\/127\.0\.0\.1:\d+)/))[1] as string
  afterEach(async () => {
    for (const process of running.splice(0)) await process.stop('SIGKILL')
    await database?.drop()
  })

  test('an empty database is migrated, a run answered, and a SIGTERM leaves nothing open', async () => {
    database = await createDatabase({ migrated: false })
    const server = start()
    const url = await addressOf(server)
    const ok = await fetch(`${url}/ok`)
    expect([ok.status, await ok.json()]).toEqual([200, { ok: true }])
    const values = await new Client({ apiUrl: url, apiKey: null }).runs.wait(null, 'agent', { input })
    expect((values as typeof input).messages.at(-1)?.content).toContain('hello')
    const ended = await server.stop()
    expect(ended.code).toBe(0)
    expect(await database.connections()).toBe(0)
  })

  test('what one process takes, another works on and streams back', { timeout: 60_000 }, async () => {
    database = await createDatabase({ migrated: false })
    const api = start('--role', 'api')
    const worker = start('--role', 'worker')
    const client = new Client({ apiUrl: await addressOf(api), apiKey: null })
    await worker.shown(/agent/)
    const { thread_id } = await client.threads.create()
    const events: string[] = []
    for await (const { event } of client.runs.stream(thread_id, 'agent', { input, streamMode: 'values' }))
      events.push(event)
    expect(events[0]).toBe('metadata')
    expect(events.filter((event) => event === 'values').length).toBeGreaterThanOrEqual(2)
    expect((await client.threads.get(thread_id)).status).toBe('idle')
    expect([(await api.stop()).code, (await worker.stop()).code]).toEqual([0, 0])
  })
})
