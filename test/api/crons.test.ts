// Crons as the official client sees them, on each stack. That runs are created in time is in test/worker/crons.test.ts.

import { describe, expect, test } from 'vitest'
import { failure } from './nouns.ts'
import { eachRunServer } from './run-server.ts'

const NOBODY = '00000000-0000-4000-8000-000000000000'
const next = (hour: number): string => {
  const date = new Date()
  date.setUTCHours(hour, 0, 0, 0)
  if (date.getTime() <= Date.now()) date.setUTCDate(date.getUTCDate() + 1)
  return date.toISOString().replace('.000Z', '+00:00')
}
const january = (): string => `${new Date().getUTCFullYear() + 1}-01-01T00:00:00+00:00`

eachRunServer((on) => {
  const crons = () => on.client.crons
  const get = async (cronId: string) => {
    const reply = await on.request('GET', `/runs/crons/${cronId}`)
    return { status: reply.status, body: await reply.json() }
  }
  const patch = async (cronId: string, body: unknown) => {
    const reply = await on.request('PATCH', `/runs/crons/${cronId}`, body)
    return { status: reply.status, body: await reply.json() }
  }
  const refused = async (body: object, path = '/runs/crons') => {
    const reply = await on.request('POST', path, { assistant_id: 'steps', schedule: '@yearly', ...body })
    return { status: reply.status, ...((await reply.json()) as { code: string; detail: string }) }
  }

  test('a cron says everything it was made with, and when its next run is', async () => {
    const assistant = await on.client.assistants.create({ graphId: 'steps' })
    const made = await crons().create(assistant.assistant_id, {
      schedule: '0 9 * * *',
      input: { log: ['in'] },
      metadata: { team: 'a' },
      config: { tags: ['t'], configurable: { model: 'm' } },
      context: { who: 'me' },
      interruptBefore: ['second'],
      interruptAfter: '*',
      streamMode: ['values', 'updates'],
      streamSubgraphs: true,
      streamResumable: true,
      durability: 'sync',
      multitaskStrategy: 'reject',
      onRunCompleted: 'keep',
      endTime: '2999-01-01T00:00:00+02:00',
    })
    const expected = {
      cron_id: expect.any(String),
      assistant_id: assistant.assistant_id,
      thread_id: null,
      on_run_completed: 'keep',
      end_time: '2998-12-31T22:00:00+00:00',
      schedule: '0 9 * * *',
      timezone: null,
      created_at: expect.any(String),
      updated_at: expect.any(String),
      user_id: null,
      payload: {
        input: { log: ['in'] },
        config: { tags: ['t'], configurable: { model: 'm' } },
        context: { who: 'me' },
        interrupt_before: ['second'],
        interrupt_after: '*',
        stream_mode: ['values', 'updates'],
        stream_subgraphs: true,
        stream_resumable: true,
        durability: 'sync',
        multitask_strategy: 'reject',
      },
      next_run_date: next(9),
      metadata: { team: 'a' },
      enabled: true,
      disabled_reason: null,
      last_error: null,
    }
    expect(made).toEqual(expected)
    expect(await get(made.cron_id)).toEqual({ status: 200, body: made })
  })

  test('a cron on a thread has no say over what becomes of the thread, and goes with it', async () => {
    const threadId = await on.thread()
    const made = await crons().createForThread(threadId, 'steps', { schedule: '@yearly', onRunCompleted: 'keep' })
    expect(made).toMatchObject({ thread_id: threadId, on_run_completed: null, next_run_date: january() })
    const detail = 'body.on_run_completed: must be left out on a thread, which is kept'
    const path = `/threads/${threadId}/runs/crons`
    expect(await refused({ on_run_completed: 'delete' }, path)).toEqual({
      status: 422,
      code: 'validation_failed',
      detail,
    })
    expect((await patch(made.cron_id, { on_run_completed: 'delete' })).body.detail).toBe(detail)
    expect((await patch(made.cron_id, { on_run_completed: null })).body.on_run_completed).toBeNull()
    await on.client.threads.delete(threadId)
    expect((await get(made.cron_id)).status).toBe(404)
  })

  test('what could never bring a run is refused by name', async () => {
    const detail = async (body: object) => (await refused(body)).detail
    expect(await refused({ schedule: '61 * * * *' })).toEqual({
      status: 422,
      code: 'validation_failed',
      detail: 'body.schedule: field 1, the minute, cannot be understood',
    })
    expect(await detail({ schedule: '0 0 30 2 *' })).toBe('body.schedule: names a time that never comes')
    expect(await detail({ timezone: 'Mars/Olympus' })).toMatch(/^body.timezone: must be the name of a time zone/)
    expect(await detail({ end_time: 'soon' })).toBe('body.end_time: must be a time such as 2026-12-31T23:59:00Z')
    expect(await detail({ stream_mode: 'all' })).toMatch(/^body.stream_mode: must be/)
    expect(await detail({ input: { a: 1 }, command: { resume: 1 } })).toBe(
      'body.input: cannot be given together with command',
    )
    expect(await detail({ webhook: 'http://127.0.0.1/' })).toMatch(/^body.webhook: must not be an address of a private/)
    expect((await refused({ assistant_id: NOBODY })).code).toBe('assistant_not_found')
    expect((await refused({}, `/threads/${NOBODY}/runs/crons`)).code).toBe('thread_not_found')
  })

  test('a date is that of the time zone, and null where no run will come', async () => {
    const berlin = { schedule: '0 0 1 1 *', timezone: 'Europe/Berlin' }
    const { cron_id, next_run_date } = await crons().create('steps', berlin)
    const year = new Date().getUTCFullYear()
    expect(next_run_date).toBe(`${year}-12-31T23:00:00+00:00`)
    const dateOf = async (change: object) => (await patch(cron_id, change)).body.next_run_date
    expect(await dateOf({ timezone: null })).toBe(january())
    expect(await dateOf({ schedule: '@daily' })).toBe(next(0))
    expect(await dateOf({ end_time: '2020-01-01T00:00:00' })).toBeNull()
    expect(await dateOf({ end_time: null })).toBe(next(0))
    expect(await dateOf({ enabled: false })).toBeNull()
    expect(await dateOf({ enabled: true })).toBe(next(0))
    expect((await crons().create('steps', { schedule: '@daily', enabled: false })).next_run_date).toBeNull()
  })

  describe('a change', () => {
    test('keeps what is absent, clears what is null, and merges metadata', async () => {
      const { cron_id } = await crons().create('steps', {
        schedule: '@yearly',
        timezone: 'Asia/Tokyo',
        endTime: '2999-01-01T00:00:00Z',
        input: { log: ['in'] },
        config: { tags: ['t'] },
        context: { who: 'me' },
        streamMode: 'updates',
        durability: 'exit',
        metadata: { a: 1, b: 1 },
        onRunCompleted: 'keep',
      })
      const before = (await get(cron_id)).body
      const { updated_at: _, ...unchanged } = before
      expect((await patch(cron_id, {})).body).toEqual({ ...unchanged, updated_at: expect.any(String) })
      const merged = await crons().update(cron_id, { metadata: { b: 2, c: 3 }, input: { log: ['new'] } })
      expect(merged.metadata).toEqual({ a: 1, b: 2, c: 3 })
      expect(merged.payload).toEqual({ ...before.payload, input: { log: ['new'] } })
      const nothing = { timezone: null, end_time: null, metadata: null, on_run_completed: null }
      const cleared = { input: null, config: null, context: null, stream_mode: null, durability: null }
      expect((await patch(cron_id, { ...nothing, ...cleared })).body).toMatchObject({
        ...nothing,
        metadata: {},
        on_run_completed: 'delete',
        payload: {},
        schedule: '@yearly',
        next_run_date: january(),
      })
      expect((await crons().update(cron_id, { endTime: '2998-01-01T00:00:00Z' })).end_time).toBe(
        '2998-01-01T00:00:00+00:00',
      )
      expect((await crons().update(cron_id, { endTime: null })).end_time).toBeNull()
    })

    test('that would leave a cron without runs is refused, and nothing of it is kept', async () => {
      const { cron_id } = await crons().create('steps', { schedule: '@yearly', input: { log: [] } })
      const before = (await get(cron_id)).body
      const detail = async (body: object) => {
        const reply = await patch(cron_id, body)
        expect(reply.status).toBe(422)
        return reply.body.detail
      }
      expect(await detail({ schedule: '* *' })).toMatch(/^body.schedule: must be five fields/)
      expect(await detail({ schedule: null })).toBe('body.schedule: must be a string')
      expect(await detail({ enabled: null })).toBe('body.enabled: must be true or false')
      expect(await detail({ schedule: '@daily', command: { resume: 1 } })).toBe(
        'body.input: cannot be given together with command',
      )
      expect((await get(cron_id)).body).toEqual(before)
      expect(await failure(crons().update(NOBODY, { enabled: false }))).toMatchObject({
        status: 404,
        code: 'cron_not_found',
      })
    })
  })

  test('a deleted cron is gone', async () => {
    const { cron_id } = await crons().create('steps', { schedule: '@yearly' })
    await crons().delete(cron_id)
    expect(await failure(crons().delete(cron_id))).toMatchObject({ status: 404, code: 'cron_not_found' })
    expect((await get(cron_id)).body.code).toBe('cron_not_found')
  })

  test('crons are found by assistant, thread, metadata and whether they are enabled, in any order, page by page', async () => {
    const mine = { suite: `search on ${on.stack.name}` }
    const threadId = await on.thread()
    const make = (schedule: string, more: object = {}) =>
      crons()
        .create('steps', { schedule, metadata: mine, ...more })
        .then(({ cron_id }) => cron_id)
    const daily = await make('@daily')
    const disabled = await make('@hourly', { enabled: false })
    const yearly = await make('@yearly', { metadata: { ...mine, more: { deep: [1, 2] } } })
    const { cron_id: onThread } = await crons().createForThread(threadId, 'pause', {
      schedule: '@yearly',
      metadata: mine,
    })
    const found = async (query: Parameters<typeof on.client.crons.search>[0]) =>
      (await crons().search({ metadata: mine, ...query })).map(({ cron_id }) => cron_id)

    expect(await found({})).toEqual([onThread, yearly, disabled, daily])
    expect(await found({ assistantId: 'pause' })).toEqual([onThread])
    expect(await found({ threadId })).toEqual([onThread])
    expect(await found({ enabled: false })).toEqual([disabled])
    expect(await found({ metadata: { ...mine, more: { deep: [2] } } })).toEqual([yearly])
    const byDate = await found({ sortBy: 'next_run_date', sortOrder: 'asc' })
    expect([byDate[0], byDate.at(-1)]).toEqual([daily, disabled])
    for (const sortBy of ['cron_id', 'assistant_id', 'thread_id', 'created_at', 'updated_at'] as const)
      expect((await found({ sortBy, sortOrder: 'asc' })).toSorted()).toEqual(
        [daily, disabled, yearly, onThread].toSorted(),
      )

    const page = await on.request('POST', '/runs/crons/search', {
      metadata: mine,
      limit: 3,
      select: ['cron_id', 'now'],
    })
    expect(page.headers.get('x-pagination-total')).toBe('4')
    expect(page.headers.get('x-pagination-next')).toBe('3')
    const rows = (await page.json()) as { now: string }[]
    expect(rows[0]).toEqual({ cron_id: onThread, now: expect.any(String) })
    expect(Math.abs(Date.parse(rows[0]?.now ?? '') - Date.now())).toBeLessThan(60_000)
    expect(await found({ limit: 3, offset: 3 })).toEqual([daily])

    expect(await crons().count({ metadata: mine })).toBe(4)
    expect(await crons().count({ metadata: mine, assistantId: 'steps' })).toBe(3)
    expect(await crons().count({ metadata: mine, threadId })).toBe(1)
  })

  test('a cron whose assistant is deleted is disabled, says so, and cannot be enabled again', async () => {
    const { assistant_id } = await on.client.assistants.create({ graphId: 'steps' })
    const { cron_id } = await crons().create(assistant_id, { schedule: '@daily' })
    await on.client.assistants.delete(assistant_id)
    const [found] = await crons().search({ assistantId: assistant_id })
    const reason = `The assistant ${assistant_id} was deleted.`
    expect(found).toMatchObject({ cron_id, enabled: false, next_run_date: null, disabled_reason: reason })
    expect(await failure(crons().update(cron_id, { enabled: true }))).toMatchObject({ code: 'assistant_not_found' })
    expect((await crons().update(cron_id, { metadata: { seen: true } })).enabled).toBe(false)
  })

  test('the server says that it has crons', async () => {
    expect(await (await on.request('GET', '/info')).json()).toMatchObject({ flags: { crons: true } })
  })
})
