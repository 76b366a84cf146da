// Runs on a thread: made, read, listed, waited for, deleted; and what they leave on their thread.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { failure } from './nouns.ts'
import { eachRunServer } from './run-server.ts'

const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$/)

eachRunServer((server) => {
  const held = async (threadId: string, node = 'first') => {
    const gate = v7()
    const run = await server.client.runs.create(threadId, 'steps', { input: { hold: { [node]: gate } } })
    await server.gates.reached(gate)
    return { run, open: () => server.gates.open(gate) }
  }

  test('a run is made, runs, and leaves its thread with its values', async () => {
    const threadId = await server.thread()
    const { client } = server
    const made = await client.runs.create(threadId, 'steps', { input: { log: ['in'] }, metadata: { mine: 1 } })
    expect(made).toEqual({
      run_id: expect.any(String),
      thread_id: threadId,
      assistant_id: (await client.assistants.search({ graphId: 'steps' }))[0]?.assistant_id,
      created_at: time,
      updated_at: time,
      status: expect.stringMatching(/^(pending|running)$/),
      metadata: { mine: 1, created_by: 'system', graph_id: 'steps', assistant_id: made.assistant_id },
      kwargs: expect.objectContaining({ input: { log: ['in'] }, stream_mode: ['values'], durability: 'async' }),
      multitask_strategy: 'enqueue',
      cancel_reason: null,
    })
    const values = { log: ['in', 'first', 'second', 'third'] }
    expect(await client.runs.join(threadId, made.run_id)).toEqual(values)
    const ended = await client.runs.get(threadId, made.run_id)
    const view = { attempt: 1, waiting: null, worker_alive: null }
    expect(ended).toEqual({ ...made, ...view, status: 'success', updated_at: time })
    expect(ended.updated_at > made.created_at).toBe(true)
    const thread = await client.threads.get(threadId)
    expect(thread).toMatchObject({
      status: 'idle',
      values,
      interrupts: {},
      error: null,
      metadata: { graph_id: 'steps', assistant_id: made.assistant_id },
    })
    expect(thread.state_updated_at).toEqual(time)
    expect(Date.parse(thread.state_updated_at as string)).toBeGreaterThanOrEqual(Date.parse(made.created_at))
  })

  test('a thread is busy while a run is on it, and what it knows of its state does not change before the end', async () => {
    const { client } = server
    const threadId = await server.thread()
    expect(await client.threads.get(threadId)).toMatchObject({ status: 'idle', values: null })
    await client.runs.wait(threadId, 'steps', { input: {} })
    const before = await client.threads.get(threadId)
    const { run, open } = await held(threadId)
    expect(await client.runs.get(threadId, run.run_id)).toMatchObject({ status: 'running' })
    const during = await client.threads.get(threadId)
    expect(during.status).toBe('busy')
    expect([during.values, during.state_updated_at]).toEqual([before.values, before.state_updated_at])
    open()
    await client.runs.join(threadId, run.run_id)
    const after = await client.threads.get(threadId)
    expect(after).toMatchObject({
      status: 'idle',
      values: { log: [...(before.values as { log: string[] }).log, 'first', 'second', 'third'] },
    })
    expect((after.state_updated_at as string) > (before.state_updated_at as string)).toBe(true)
  })

  test('runs are listed newest first, by status, in pages and in part', async () => {
    const { client } = server
    const threadId = await server.thread()
    const made: string[] = []
    for (let i = 0; i < 3; i++) {
      const input = i === 1 ? { fail: { first: 'error' } } : { fail: {} }
      const { run_id } = await client.runs.create(threadId, 'steps', { input })
      await client.runs.join(threadId, run_id)
      made.unshift(run_id)
    }
    const ids = async (options: Parameters<typeof client.runs.list>[1]) =>
      (await client.runs.list(threadId, options)).map(({ run_id }) => run_id)
    expect(await ids({})).toEqual(made)
    expect(await ids({ limit: 2 })).toEqual(made.slice(0, 2))
    expect(await ids({ limit: 2, offset: 1 })).toEqual(made.slice(1))
    expect(await ids({ offset: 3 })).toEqual([])
    expect(await ids({ status: 'error' })).toEqual([made[1]])
    expect(await ids({ status: 'success' })).toEqual([made[0], made[2]])
    expect(await ids({ status: 'pending' })).toEqual([])
    const part = await client.runs.list(threadId, { select: ['run_id', 'status'] })
    expect(part).toEqual(made.map((run_id, i) => ({ run_id, status: i === 1 ? 'error' : 'success' })))
    expect(await client.runs.list(await server.thread())).toEqual([])
    expect(await failure(client.runs.list(v7()))).toMatchObject({ status: 404, code: 'thread_not_found' })
    for (const query of ['limit=0', 'limit=1001', 'offset=-1', 'status=done', 'select=secret']) {
      expect((await server.request('GET', `/threads/${threadId}/runs?${query}`)).status, query).toBe(422)
    }
  })

  test('a run is looked for on its own thread only', async () => {
    const { client } = server
    const [one, other] = [await server.thread(), await server.thread()]
    const { run_id } = await client.runs.create(one, 'steps', { input: {} })
    await client.runs.join(one, run_id)
    expect(await failure(client.runs.get(other, run_id))).toMatchObject({ status: 404, code: 'run_not_found' })
    expect(await failure(client.runs.get(one, v7()))).toMatchObject({ status: 404, code: 'run_not_found' })
    expect(await failure(client.runs.delete(other, run_id))).toMatchObject({ status: 404, code: 'run_not_found' })
    expect((await server.request('GET', `/threads/${one}/runs/not-an-id`)).status).toBe(422)
  })

  test('wait answers with the values, join with the values of a run that has ended too', async () => {
    const { client } = server
    const threadId = await server.thread()
    const waited = await client.runs.wait(threadId, 'steps', { input: { log: ['in'] } })
    expect(waited).toEqual({ log: ['in', 'first', 'second', 'third'] })
    const [run] = await client.runs.list(threadId)
    expect(await client.runs.join(threadId, run?.run_id as string)).toEqual(waited)
  })

  test('wait and join of a failed run say what failed, with status 200', async () => {
    const { client } = server
    const threadId = await server.thread()
    const error = { __error__: { error: 'TypeError', message: 'the node broke' } }
    const body = { assistant_id: 'steps', input: { fail: { second: 'error' } } }
    const answer = await server.request('POST', `/threads/${threadId}/runs/wait`, body)
    expect([answer.status, await answer.json()]).toEqual([200, error])
    const [run] = await client.runs.list(threadId)
    expect(run).toMatchObject({ status: 'error' })
    const joined = await server.request('GET', `/threads/${threadId}/runs/${run?.run_id}/join`)
    expect([joined.status, await joined.json()]).toEqual([200, error])
    await expect(client.runs.wait(threadId, 'steps', { input: body.input })).rejects.toThrow('the node broke')
    expect(await client.threads.get(threadId)).toMatchObject({
      status: 'error',
      error: error.__error__,
      values: { log: ['first', 'first'] },
    })
    const healed = await client.runs.wait(threadId, 'steps', { input: { fail: {} } })
    expect(healed).toMatchObject({ log: ['first', 'first', 'first', 'second', 'third'] })
    expect(await client.threads.get(threadId)).toMatchObject({ status: 'idle', error: null })
  })

  test('a run that stops at an interrupt is a success, and its thread waits for the answer', async () => {
    const { client } = server
    const threadId = await server.thread()
    const waited = (await client.runs.wait(threadId, 'approve', { input: { topic: 'cake' } })) as Record<
      string,
      unknown
    >
    const open = [{ id: expect.any(String), value: { approve: 'cake' } }]
    expect(waited).toEqual({ log: [], topic: 'cake', __interrupt__: open })
    const [run] = await client.runs.list(threadId)
    expect(run).toMatchObject({ status: 'success' })
    expect(await client.runs.join(threadId, run?.run_id as string)).toEqual(waited)
    const thread = await client.threads.get(threadId)
    expect(thread).toMatchObject({ status: 'interrupted', values: { log: [], topic: 'cake' } })
    expect(Object.values(thread.interrupts)).toEqual([waited.__interrupt__])
    expect(await client.threads.search({ ids: [threadId], status: 'interrupted' })).toHaveLength(1)
    const answered = await client.runs.wait(threadId, 'approve', { command: { resume: { yes: true } } })
    expect(answered).toEqual({ log: ['asked cake: {"yes":true}', 'acted'], topic: 'cake' })
    expect(await client.threads.get(threadId)).toMatchObject({ status: 'idle', interrupts: {} })
  })

  test('a run that has ended can be deleted, with its log; one that has not cannot, and loses nothing', async () => {
    const { client } = server
    const threadId = await server.thread()
    const { run, open } = await held(threadId, 'second')
    expect(await failure(client.runs.delete(threadId, run.run_id))).toMatchObject({ status: 409, code: 'run_active' })
    open()
    await client.runs.join(threadId, run.run_id)
    const events = await (await server.join(threadId, run.run_id, { from: '-1' })).rest()
    expect(events.map(({ event }) => event)).toEqual(['metadata', 'values', 'values', 'values', 'values', 'end'])
    const values = (await client.threads.get(threadId)).values
    await client.runs.delete(threadId, run.run_id)
    expect(await failure(client.runs.get(threadId, run.run_id))).toMatchObject({ status: 404 })
    expect(await failure(client.runs.delete(threadId, run.run_id))).toMatchObject({ status: 404 })
    expect((await client.threads.get(threadId)).values).toEqual(values)
    const later = await (await server.stream(threadId, { assistant_id: 'steps', input: { hold: {} } })).rest()
    expect(Number(later[0]?.id)).toBeGreaterThan(Number(events.at(-1)?.id))
  })

  test('a run of an assistant or on a thread that does not exist is refused, and nothing is made', async () => {
    const { client } = server
    const threadId = await server.thread()
    const nobody = await failure(client.runs.create(threadId, 'nobody'))
    expect(nobody).toMatchObject({
      status: 404,
      code: 'assistant_not_found',
      detail: expect.stringContaining('nobody'),
    })
    expect(await failure(client.runs.create(threadId, v7()))).toMatchObject({
      status: 404,
      code: 'assistant_not_found',
    })
    expect(await client.runs.list(threadId)).toEqual([])
    const nowhere = v7()
    expect(await failure(client.runs.create(nowhere, 'steps'))).toMatchObject({ status: 404, code: 'thread_not_found' })
    expect(await failure(client.runs.wait(nowhere, 'steps'))).toMatchObject({ status: 404, code: 'thread_not_found' })
    expect((await server.request('POST', `/threads/${nowhere}/runs/stream`, { assistant_id: 'steps' })).status).toBe(
      404,
    )
    expect(await failure(client.threads.get(nowhere))).toMatchObject({ status: 404 })
  })

  test('if_not_exists create makes the thread, once, however many ask', async () => {
    const { client } = server
    const threadId = v7()
    const ask = () => client.runs.create(threadId, 'steps', { input: {}, ifNotExists: 'create' })
    const runs = await Promise.all(Array.from({ length: 8 }, ask))
    expect(new Set(runs.map(({ run_id }) => run_id)).size).toBe(8)
    for (const { run_id } of runs) await client.runs.join(threadId, run_id)
    const thread = await client.threads.get(threadId)
    expect(thread).toMatchObject({ status: 'idle', metadata: { graph_id: 'steps' } })
    expect((thread.values as { log: string[] }).log).toHaveLength(24)
  })
})
