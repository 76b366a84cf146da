// Cancelling: runs that wait, that run, that have ended; one or many; and what those who wait for them are told.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { failure } from './nouns.ts'
import { eachRunServer } from './run-server.ts'

eachRunServer((server) => {
  const running = async (threadId?: string) => {
    const id = threadId ?? (await server.thread())
    const gate = v7()
    const run = await server.client.runs.create(id, 'steps', { input: { log: ['in'], hold: { second: gate } } })
    await server.gates.reached(gate)
    return { threadId: id, runId: run.run_id, open: () => server.gates.open(gate) }
  }
  const waiting = async (threadId?: string) => {
    const id = threadId ?? (await server.thread())
    const run = await server.client.runs.create(id, 'steps', { input: {}, afterSeconds: 3600 })
    return { threadId: id, runId: run.run_id }
  }
  const get = (threadId: string, runId: string) => server.client.runs.get(threadId, runId)

  test('a run that waits is over at once, and never runs', async () => {
    const { threadId, runId } = await waiting()
    const answer = await server.request('POST', `/threads/${threadId}/runs/${runId}/cancel`)
    expect([answer.status, await answer.json()]).toEqual([202, {}])
    expect(await get(threadId, runId)).toMatchObject({
      status: 'interrupted',
      cancel_reason: 'cancelled through the API',
    })
    expect((await server.client.threads.get(threadId)).status).toBe('idle')
    expect(server.ran.filter(({ run_id }) => run_id === runId)).toEqual([])
  })

  test('a run that runs is stopped; with wait, the answer comes when it is over', async () => {
    const { client } = server
    const { threadId, runId, open } = await running()
    const answer = await server.request('POST', `/threads/${threadId}/runs/${runId}/cancel?wait=true`)
    expect([answer.status, await answer.json()]).toEqual([200, {}])
    expect(await get(threadId, runId)).toMatchObject({
      status: 'interrupted',
      cancel_reason: 'cancelled through the API',
    })
    const state = await client.threads.getState(threadId)
    expect([state.values, state.next]).toEqual([{ log: ['in', 'first'], hold: expect.any(Object) }, ['second']])
    expect(await client.threads.get(threadId)).toMatchObject({ status: 'interrupted', values: state.values })
    expect(await client.runs.join(threadId, runId)).toEqual(state.values)
    open()
    expect(await client.runs.wait(threadId, 'steps')).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
  })

  test('without wait, the answer does not wait for the graph', async () => {
    const { threadId, runId } = await running()
    await server.client.runs.cancel(threadId, runId)
    expect((await server.ended(threadId, runId)).status).toBe('interrupted')
  })

  test('wait=0 and wait=false do not wait either', async () => {
    for (const wait of ['0', 'false']) {
      const { threadId, runId } = await waiting()
      const answer = await server.request('POST', `/threads/${threadId}/runs/${runId}/cancel?wait=${wait}`)
      expect(answer.status).toBe(202)
    }
  })

  test('who waits for a run that is cancelled gets the values it got to', async () => {
    const { client } = server
    const threadId = await server.thread()
    const gate = v7()
    const waited = client.runs.wait(threadId, 'steps', { input: { log: ['in'], hold: { third: gate } } })
    await server.gates.reached(gate)
    const [run] = await client.runs.list(threadId)
    const joined = client.runs.join(threadId, run?.run_id as string)
    const stream = await server.join(threadId, run?.run_id as string, { from: '-1' })
    await client.runs.cancel(threadId, run?.run_id as string, true)
    const values = { log: ['in', 'first', 'second'], hold: { third: gate } }
    expect(await waited).toEqual(values)
    expect(await joined).toEqual(values)
    expect((await stream.rest()).map(({ event }) => event)).toEqual(['metadata', 'values', 'values', 'values', 'end'])
  })

  test('rollback removes the run and what it stored', async () => {
    const { client } = server
    const threadId = await server.thread()
    await client.runs.wait(threadId, 'steps', { input: { log: ['before'] } })
    const before = { state: await client.threads.getState(threadId), thread: await client.threads.get(threadId) }
    const { runId } = await running(threadId)
    await client.runs.cancel(threadId, runId, true, 'rollback')
    expect(await failure(get(threadId, runId))).toMatchObject({ status: 404, code: 'run_not_found' })
    expect(await client.threads.getState(threadId)).toEqual(before.state)
    const { updated_at: _, ...thread } = await client.threads.get(threadId)
    expect({ ...thread, updated_at: before.thread.updated_at }).toEqual(before.thread)
    expect(await client.threads.getHistory(threadId, { limit: 100 })).toHaveLength(5)
  })

  test('rollback of a run that waits removes it', async () => {
    const { threadId, runId } = await waiting()
    await server.client.runs.cancel(threadId, runId, true, 'rollback')
    expect(await server.client.runs.list(threadId)).toEqual([])
  })

  test('who waits for a run that is rolled back is told that it is gone', async () => {
    const { client } = server
    const { threadId, runId } = await running()
    const joined = server.request('GET', `/threads/${threadId}/runs/${runId}/join`)
    const answer = await joined
    await client.runs.cancel(threadId, runId, true, 'rollback')
    expect(await answer.json()).toMatchObject({ __error__: { error: 'run_not_found' } })
  })

  test('reason=taken is said in front, and only goes with interrupt', async () => {
    const { threadId, runId } = await waiting()
    const path = `/threads/${threadId}/runs/${runId}/cancel`
    expect((await server.request('POST', `${path}?reason=taken&action=rollback`)).status).toBe(422)
    expect((await server.request('POST', `${path}?reason=bored`)).status).toBe(422)
    expect((await server.request('POST', `${path}?action=explode`)).status).toBe(422)
    expect((await get(threadId, runId)).status).toBe('pending')
    expect((await server.request('POST', `${path}?reason=taken`)).status).toBe(202)
    expect((await get(threadId, runId)).cancel_reason).toMatch(/^taken:/)
  })

  test('a run that has ended cannot be cancelled, one that never was neither', async () => {
    const { client } = server
    const threadId = await server.thread()
    const { run_id } = await client.runs.create(threadId, 'steps', { input: {} })
    await client.runs.join(threadId, run_id)
    const ended = await failure(client.runs.cancel(threadId, run_id))
    expect(ended).toMatchObject({
      status: 409,
      code: 'run_not_cancellable',
      detail: expect.stringContaining('success'),
    })
    expect(await failure(client.runs.cancel(threadId, run_id, true, 'rollback'))).toMatchObject({ status: 409 })
    expect((await get(threadId, run_id)).status).toBe('success')
    expect(await failure(client.runs.cancel(threadId, v7()))).toMatchObject({ status: 404, code: 'run_not_found' })
    expect(await failure(client.runs.cancel(await server.thread(), run_id))).toMatchObject({ status: 404 })
    expect(await failure(client.runs.cancel(v7(), run_id))).toMatchObject({ status: 404 })
  })

  test('a run that is cancelled twice ends once, and the first reason stays', async () => {
    const { client } = server
    const { threadId, runId } = await running()
    const path = `/threads/${threadId}/runs/${runId}/cancel`
    const answers = await Promise.all(
      ['?wait=1', '?wait=1&reason=taken', ''].map((query) => server.request('POST', path + query)),
    )
    for (const { status } of answers) expect([200, 202, 409]).toContain(status)
    const run = await server.ended(threadId, runId)
    expect(run.status).toBe('interrupted')
    expect(run.cancel_reason).toMatch(/cancelled through the API$/)
    expect(await client.runs.list(threadId)).toHaveLength(1)
  })

  test('many are cancelled by their ids; those that have ended stay as they are', async () => {
    const { client } = server
    const threadId = await server.thread()
    const ended = await client.runs.create(threadId, 'steps', { input: {} })
    await client.runs.join(threadId, ended.run_id)
    const active = await running(threadId)
    const later = await waiting(threadId)
    const run_ids = [ended.run_id, active.runId, later.runId]
    const bulk = (body: unknown, query = '') => server.request('POST', `/runs/cancel${query}`, body)
    expect((await bulk({ thread_id: threadId, run_ids: [...run_ids, v7()] })).status).toBe(404)
    expect((await get(threadId, later.runId)).status).toBe('pending')
    expect((await bulk({ thread_id: await server.thread(), run_ids })).status).toBe(404)
    await client.runs.cancelMany({ threadId, runIds: run_ids })
    await server.ended(threadId, active.runId)
    const statuses = await Promise.all(run_ids.map(async (id) => (await get(threadId, id)).status))
    expect(statuses).toEqual(['success', 'interrupted', 'interrupted'])
    for (const body of [{}, { status: 'done' }, { thread_id: threadId }, { thread_id: threadId, run_ids: [] }]) {
      expect((await bulk(body)).status, JSON.stringify(body)).toBe(422)
    }
  })

  test('many are cancelled by their status', async () => {
    const { client } = server
    const [active, later] = [await running(), await waiting()]
    await client.runs.cancelMany({ status: 'pending' })
    expect((await get(later.threadId, later.runId)).status).toBe('interrupted')
    expect((await get(active.threadId, active.runId)).status).toBe('running')
    const again = await waiting()
    await client.runs.cancelMany({ status: 'running' })
    expect((await server.ended(active.threadId, active.runId)).status).toBe('interrupted')
    expect((await get(again.threadId, again.runId)).status).toBe('pending')
    const both = await running()
    await client.runs.cancelMany({ status: 'all', action: 'rollback' })
    await until('both are gone', async () => {
      const found = await Promise.all([client.runs.list(again.threadId), client.runs.list(both.threadId)])
      return found.flat().length === 0
    })
    expect(await failure(client.runs.cancelMany({ status: 'all' }))).toMatchObject({
      status: 404,
      code: 'run_not_found',
    })
  })

  test('a stateless run that is cancelled takes its thread with it', async () => {
    const { client } = server
    const gate = v7()
    const started = await client.runs.create(null, 'steps', { input: { hold: { first: gate } } })
    const later = await client.runs.create(null, 'steps', { input: {}, afterSeconds: 3600 })
    const undone = await client.runs.create(null, 'steps', { input: {}, afterSeconds: 3600 })
    await server.gates.reached(gate)
    await client.runs.cancel(later.thread_id, later.run_id, true)
    await client.runs.cancel(undone.thread_id, undone.run_id, true, 'rollback')
    await client.runs.cancel(started.thread_id, started.run_id, true)
    for (const { thread_id } of [started, later, undone]) {
      expect(await failure(client.threads.get(thread_id))).toMatchObject({ status: 404 })
    }
  })
})
