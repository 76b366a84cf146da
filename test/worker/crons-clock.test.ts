// Crons by the real clock, on each stack: what a user sees at the turn of a minute. On Postgres the minute that has begun is
// made due, so that only one stack has to wait for one.

import pg from 'pg'
import { beforeAll, expect, test, vi } from 'vitest'
import { eachRunServer } from '../api/run-server.ts'
import { until } from '../support/until.ts'

vi.setConfig({ hookTimeout: 120_000, testTimeout: 60_000 })

async function makeDue(uri: string): Promise<void> {
  const client = new pg.Client({ connectionString: uri })
  await client.connect()
  await client.query(`update crons set next_run_date = date_trunc('minute', clock_timestamp()) where enabled`)
  await client.end()
}

const EVERY_MINUTE = { schedule: '* * * * *' }

eachRunServer((on) => {
  const fired = (cronId: string) =>
    on.server.seen.filter((seen) => seen.kind === 'cron_fired').filter(({ cron_id }) => cron_id === cronId)
  const ids: Record<'kept' | 'temporary' | 'onThread' | 'disabled', string> = {
    kept: '',
    temporary: '',
    onThread: '',
    disabled: '',
  }
  let threadId = ''

  beforeAll(async () => {
    const { crons } = on.client
    threadId = await on.thread()
    const input = { log: ['in'] }
    const made = await Promise.all([
      crons.create('steps', { ...EVERY_MINUTE, input, onRunCompleted: 'keep', metadata: { team: 'a' } }),
      crons.create('steps', { ...EVERY_MINUTE, input }),
      crons.createForThread(threadId, 'steps', { ...EVERY_MINUTE, input }),
      crons.create('steps', { ...EVERY_MINUTE, input, enabled: false }),
    ])
    ;[ids.kept, ids.temporary, ids.onThread, ids.disabled] = made.map(({ cron_id }) => cron_id) as [
      string,
      string,
      string,
      string,
    ]
    const database = on.stack.database()
    if ('uri' in database) await makeDue(database.uri)
    await until(
      'every cron has fired',
      () => [ids.kept, ids.temporary, ids.onThread].every((id) => fired(id).length > 0),
      110_000,
    )
    for (const id of Object.values(ids)) await crons.update(id, { enabled: false })
  })

  test('at the turn of the minute each cron has its run, which runs to its end', async () => {
    for (const id of [ids.kept, ids.temporary, ids.onThread]) {
      const [first] = fired(id)
      expect(first?.slot).toMatch(/:00\.000Z$/)
      await until('its run has succeeded', () =>
        on.server.seen.some(
          (seen) => seen.kind === 'run_settled' && seen.run_id === first?.run_id && seen.outcome === 'success',
        ),
      )
    }
    expect(fired(ids.disabled)).toEqual([])
  })

  test('a run is not created before its slot, and says whose it is', async () => {
    const [run] = await on.client.runs.list(threadId)
    const slot = fired(ids.onThread)[0]?.slot
    expect(run?.metadata).toMatchObject({ cron_id: ids.onThread, cron_slot: slot })
    expect(Date.parse(run?.created_at ?? '')).toBeGreaterThanOrEqual(Date.parse(slot ?? ''))
    expect((await on.client.threads.getState(threadId)).values).toMatchObject({
      log: ['in', 'first', 'second', 'third'],
    })
  })

  test('"keep" keeps the thread of a run, "delete" does not', async () => {
    const threadOf = (id: string) => {
      const created = on.server.seen.filter((seen) => seen.kind === 'run_created')
      return created.find(({ run_id }) => run_id === fired(id)[0]?.run_id)?.thread_id ?? ''
    }
    const kept = await on.client.threads.get(threadOf(ids.kept))
    expect(kept.values).toEqual({ log: ['in', 'first', 'second', 'third'] })
    const gone = await on.request('GET', `/threads/${threadOf(ids.temporary)}`)
    expect(gone.status).toBe(404)
  })
})
