// Runs without a thread: each has one of its own, which goes with it or stays, as asked; and many at once.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { failure } from './nouns.ts'
import { eachRunServer, named } from './run-server.ts'

eachRunServer((server) => {
  const values = { log: ['in', 'first', 'second', 'third'] }
  const input = { log: ['in'] }

  test('wait answers with the values, and thread and run are gone', async () => {
    const { client } = server
    let threadId = ''
    let runId = ''
    const answer = await client.runs.wait(null, 'steps', {
      input,
      onRunCreated: ({ run_id }) => {
        runId = run_id
      },
    })
    expect(answer).toEqual(values)
    threadId = (
      server.server.seen.find((seen) => seen.kind === 'run_settled' && seen.run_id === runId) as { thread_id: string }
    ).thread_id
    expect(await failure(client.threads.get(threadId))).toMatchObject({ status: 404 })
    expect(await failure(client.threads.getState(threadId))).toMatchObject({ status: 404 })
    expect(await failure(client.runs.get(threadId, runId))).toMatchObject({ status: 404 })
    expect(await failure(client.runs.list(threadId))).toMatchObject({ status: 404 })
    expect(await failure(client.runs.create(threadId, 'steps'))).toMatchObject({ status: 404 })
    expect(await failure(client.runs.create(threadId, 'steps', { ifNotExists: 'create' }))).toMatchObject({
      status: 404,
    })
    expect(await client.threads.search({ ids: [threadId] })).toEqual([])
  })

  test('on_completion keep keeps the thread', async () => {
    const { client } = server
    const run = await client.runs.create(null, 'steps', { input, onCompletion: 'keep' as never })
    expect(await client.runs.join(run.thread_id, run.run_id)).toEqual(values)
    expect(await client.threads.get(run.thread_id)).toMatchObject({
      status: 'idle',
      values,
      metadata: { graph_id: 'steps' },
    })
    expect((await client.runs.get(run.thread_id, run.run_id)).status).toBe('success')
  })

  test('stream says everything, and an error too', async () => {
    const ok = await (await server.stream(null, { assistant_id: 'steps', input, stream_mode: 'updates' })).rest()
    expect(named(ok)).toEqual([
      ['metadata', { run_id: expect.any(String), attempt: 1 }],
      ['updates', { first: { log: ['first'] } }],
      ['updates', { second: { log: ['second'] } }],
      ['updates', { third: { log: ['third'] } }],
      ['end', null],
    ])
    const failed = await server.request('POST', '/runs/wait', {
      assistant_id: 'steps',
      input: { fail: { first: 'error' } },
    })
    expect(await failed.json()).toEqual({ __error__: { error: 'TypeError', message: 'the node broke' } })
  })

  test('what only makes sense on a thread has no effect', async () => {
    const body = {
      assistant_id: 'steps',
      input,
      multitask_strategy: 'reject',
      if_not_exists: 'reject',
      checkpoint_id: v7(),
    }
    expect(await (await server.request('POST', '/runs/wait', body)).json()).toEqual(values)
  })

  test('many runs are made at once, each on a thread of its own', async () => {
    const { client } = server
    const payloads = [1, 2, 3].map((i) => ({ assistantId: 'steps', input: { log: [`run ${i}`] }, metadata: { i } }))
    const made = await client.runs.createBatch(payloads)
    expect(made.map(({ metadata }) => (metadata as { i: number }).i)).toEqual([1, 2, 3])
    expect(new Set(made.map(({ thread_id }) => thread_id)).size).toBe(3)
    await until('all have ended', () => {
      const ended = server.server.seen.filter((seen) => seen.kind === 'run_settled').map((seen) => seen.run_id)
      return made.every(({ run_id }) => ended.includes(run_id))
    })
  })

  test('of a batch with a wrong item, nothing is made', async () => {
    const made = () => server.server.seen.filter(({ kind }) => kind === 'run_created').length
    const before = made()
    const good = { assistant_id: 'steps', input }
    for (const bad of [{ assistant_id: 'nobody' }, { assistant_id: 'steps', stream_mode: 'loud' }]) {
      const answer = await server.request('POST', '/runs/batch', [good, bad, good])
      expect([404, 422]).toContain(answer.status)
      // Whatever the batch made is made before this.
      for (let i = 0; i < 3; i++) await server.client.runs.wait(null, 'steps', { input })
    }
    expect((await server.request('POST', '/runs/batch', [])).status).toBe(422)
    expect((await server.request('POST', '/runs/batch', good)).status).toBe(422)
    expect(made()).toBe(before + 6)
  })
})
