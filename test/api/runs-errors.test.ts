// What becomes of a run whose graph throws whatever it likes, writes what cannot be stored, or does not end.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { eachRunServer, named } from './run-server.ts'

interface Failed {
  __error__?: { error: string; message: string }
}

eachRunServer((server) => {
  const fail = async (how: string, node = 'second') => {
    const threadId = await server.thread()
    const body = { assistant_id: 'steps', input: { log: ['in'], fail: { [node]: how } } }
    const answer = await server.request('POST', `/threads/${threadId}/runs/wait`, body)
    expect(answer.status).toBe(200)
    const { __error__: error } = (await answer.json()) as Failed
    const [run] = await server.client.runs.list(threadId)
    return { threadId, runId: run?.run_id as string, status: run?.status, error }
  }

  test.each([
    ['error', { error: 'TypeError', message: 'the node broke' }],
    // LangGraph itself stumbles over what is no object, and its own error is what is left.
    ['null', { error: 'TypeError', message: expect.stringMatching(/null/) }],
    ['undefined', { error: 'TypeError', message: expect.stringMatching(/undefined/) }],
    ['string', { error: 'TypeError', message: expect.stringMatching(/just words/) }],
    ['object', { error: 'Error', message: 'an object' }],
    ['getter', { error: 'Error', message: expect.any(String) }],
    ['cyclic', { error: 'Error', message: 'round and round' }],
  ])('a node that throws %s fails its run with a class and a message', async (how, expected) => {
    const { threadId, runId, status, error } = await fail(how)
    expect([status, error]).toEqual(['error', expected])
    expect(await server.client.threads.get(threadId)).toMatchObject({ status: 'error', error })
    const events = named(await (await server.join(threadId, runId, { from: '-1' })).rest())
    expect(events.slice(-2)).toEqual([
      ['error', error],
      ['end', null],
    ])
    expect((await server.client.threads.getState<{ log: string[] }>(threadId)).values.log).toEqual(['in', 'first'])
  })

  test('a message of 10 MB is cut to 8 KiB', async () => {
    const { status, error } = await fail('huge')
    expect(status).toBe('error')
    expect(error?.error).toBe('Error')
    const size = Buffer.byteLength(error?.message ?? '')
    expect(size).toBeLessThanOrEqual(8192)
    expect(size).toBeGreaterThan(8000)
    expect(error?.message).toMatch(/^x+…$/)
  })

  test.each(['function', 'symbol', 'promise'])(
    'state that cannot be stored (a %s) fails the run, names the channel, and leaves nothing half-written',
    async (how) => {
      const { threadId, status, error } = await fail(how)
      expect(status).toBe('error')
      expect(error?.message).toContain('odd')
      const state = await server.client.threads.getState<{ log: string[] }>(threadId)
      expect([state.values.log, state.next]).toEqual([['in', 'first'], ['second']])
      expect(await server.client.threads.get(threadId)).toMatchObject({
        status: 'error',
        values: { log: ['in', 'first'] },
      })
      const next = await server.client.runs.wait(threadId, 'steps', { input: { fail: null } })
      expect(next).toMatchObject({ log: ['in', 'first', 'first', 'second', 'third'] })
    },
  )

  test('the same with every durability', async () => {
    for (const durability of ['sync', 'async', 'exit']) {
      const threadId = await server.thread()
      const body = { assistant_id: 'steps', input: { log: ['in'], fail: { third: 'function' } }, durability }
      const answer = await server.request('POST', `/threads/${threadId}/runs/wait`, body)
      const { __error__: error } = (await answer.json()) as Failed
      expect(error?.message, durability).toContain('odd')
      for (const state of await server.client.threads.getHistory<{ log?: string[] }>(threadId)) {
        const at = state.checkpoint.checkpoint_id as string
        expect((await server.client.threads.getState(threadId, at)).values).toEqual(state.values)
      }
    }
  })

  test('NUL, lone surrogates and private characters come through input, state, events and metadata unchanged', async () => {
    const odd = ['a\0b', '\ud800', 'x\udfff', '\ue000', '\ue000e', '\ue0000', '\\u0000', '\u2028', '😀']
    const threadId = await server.thread()
    // The API refuses them in requests; a graph may make them all the same.
    const waited = await server.client.runs.wait(threadId, 'odd', { input: { log: [] }, metadata: { mark: '\ue000e' } })
    expect(waited).toEqual({ log: odd })
    expect((await server.client.threads.get(threadId)).values).toEqual({ log: odd })
    expect((await server.client.threads.getState(threadId)).values).toEqual({ log: odd })
    const [run] = await server.client.runs.list(threadId)
    expect(run?.metadata).toMatchObject({ mark: '\ue000e' })
    const events = await (await server.join(threadId, run?.run_id as string, { from: '-1' })).rest()
    expect(events.at(-2)?.data).toEqual({ log: odd })
  })
})

eachRunServer(
  (server) => {
    test('a run that takes too long is stopped with the status timeout', async () => {
      const [threadId, gate] = [await server.thread(), v7()]
      const body = { assistant_id: 'steps', input: { log: ['in'], hold: { second: gate } }, stream_mode: 'updates' }
      const error = { error: 'RunTimeout', message: 'The run was stopped after 0.3 s, the longest a run may take.' }
      expect(named(await (await server.stream(threadId, body)).rest())).toEqual([
        ['metadata', { run_id: expect.any(String), attempt: 1 }],
        ['updates', { first: { log: ['first'] } }],
        ['error', error],
        ['end', null],
      ])
      const [run] = await server.client.runs.list(threadId)
      expect(run?.status).toBe('timeout')
      const joined = await server.request('GET', `/threads/${threadId}/runs/${run?.run_id}/join`)
      expect(await joined.json()).toEqual({ __error__: error })
      expect(await server.client.threads.get(threadId)).toMatchObject({
        status: 'error',
        error,
        values: { log: ['in', 'first'] },
      })
    })
  },
  { config: { runTimeoutSeconds: 0.3 } },
)
