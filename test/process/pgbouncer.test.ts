import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { type PgBouncer, pgbouncerBinary, startPgBouncer } from '../support/pgbouncer.ts'
import { startServer, type TestServer } from '../support/stacks.ts'

if (pgbouncerBinary === undefined) {
  console.warn('Heddle behind PgBouncer is not tested: pgbouncer is not installed (Debian: apt-get install pgbouncer).')
}

describe.skipIf(pgbouncerBinary === undefined)('behind PgBouncer in transaction mode', () => {
  const { graphs, gates } = createRunGraphs()
  let database: TestDatabase
  let bouncer: PgBouncer
  let api: TestServer
  let worker: TestServer

  beforeAll(async () => {
    database = await createDatabase({ migrated: false })
    // Fewer connections than the two processes open, so that statements do meet other server processes.
    bouncer = await startPgBouncer(pgbouncerBinary as string, database.uri, 3)
    api = await startServer({ graphs, database: { uri: bouncer.uri }, role: 'api' })
    worker = await startServer({ graphs, database: { uri: bouncer.uri }, role: 'worker' })
  })
  afterAll(async () => {
    await Promise.all([worker?.close(), api?.close()])
    await bouncer?.stop()
    await database?.drop()
  })

  test('the server says that notifications do not come through, and why', () => {
    for (const { seen } of [api, worker]) {
      const [failure] = seen.flatMap((one) => (one.kind === 'bus_failed' ? [one] : []))
      expect(failure?.where).toBe('postgres')
      expect(String(failure?.error)).toContain('pooler')
    }
  })

  test('many runs at once in two processes all end with their values', async () => {
    const starts = Array.from({ length: 30 }, (_, i) => [`start ${i}`])
    const wait = (log: string[]) => api.client.runs.wait(null, 'steps', { input: { log } })
    const values = (await Promise.all(starts.map(wait))) as { log: string[] }[]
    expect(values.map(({ log }) => log)).toEqual(starts.map((log) => [...log, 'first', 'second', 'third']))
  })

  test('a stream brings every event in order, and can be taken up again', async () => {
    const { thread_id } = await api.client.threads.create()
    const body = { assistant_id: 'steps', input: {}, stream_mode: 'updates' }
    const response = await api.request('POST', `/threads/${thread_id}/runs/stream`, body)
    const events = await readEvents(response).rest()
    expect(events.map(({ event, data }) => [event, Object.keys(data ?? {})[0]])).toEqual([
      ['metadata', 'run_id'],
      ['updates', 'first'],
      ['updates', 'second'],
      ['updates', 'third'],
      ['end', undefined],
    ])
    const location = response.headers.get('location') as string
    const again = await api.request('GET', location, undefined, { 'last-event-id': events[1]?.id as string })
    expect(await readEvents(again).rest()).toEqual(events.slice(2))
  })

  test('a running run is cancelled from the other process', async () => {
    const { thread_id } = await api.client.threads.create()
    const run = await api.client.runs.create(thread_id, 'steps', { input: { hold: { second: 'never' } } })
    await gates.reached('never')
    await api.client.runs.cancel(thread_id, run.run_id, true)
    expect((await api.client.runs.get(thread_id, run.run_id)).status).toBe('interrupted')
    expect((await api.client.threads.getState(thread_id)).values).toMatchObject({ log: ['first'] })
  })

  test('nothing failed on the way', () => {
    const failed = [...api.seen, ...worker.seen].filter(
      ({ kind }) => kind === 'request_failed' || kind === 'background_failed' || kind === 'database_failed',
    )
    expect(failed).toEqual([])
  })
})
