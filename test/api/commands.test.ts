// Commands on the raw wire: the envelope and its refusals, and everything that starts a run.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { V2_STREAM_MODES } from '../../src/contract/commands.ts'
import { appliedThrough } from '../../src/runs/protocol.ts'
import { createCommandGraphs } from '../support/graphs/commands.ts'
import { eachCommandServer, newThread } from './command-server.ts'

eachCommandServer((on) => {
  const post = async (threadId: string, body: unknown) => {
    const response = await on.server.request('POST', `/threads/${threadId}/commands`, body)
    return { status: response.status, body: await response.json() }
  }
  const refused = async (threadId: string, method: string, params: unknown = {}) => {
    const { status, body } = await on.send(threadId, method, params)
    expect({ status, type: body.type, meta: body.meta }).toEqual({
      status: 200,
      type: 'error',
      meta: { thread_id: threadId },
    })
    return [body.error, body.message]
  }
  const log = async (threadId: string) => (await on.client.threads.getState<{ log: string[] }>(threadId)).values.log

  test('what is no command is answered with status 400, and its id where it has one', async () => {
    const threadId = newThread()
    const error = (id: number | null, message: string) => ({
      status: 400,
      body: { type: 'error', id, error: 'invalid_argument', message },
    })
    expect(await post(threadId, {})).toEqual(error(null, 'command.id: is required'))
    expect(await post(threadId, [])).toEqual(error(null, 'command: must be an object'))
    expect(await post(threadId, undefined)).toEqual(error(null, 'command: is required'))
    expect(await post(threadId, { id: 7 })).toEqual(error(7, 'command.method: is required'))
    expect(await post(threadId, { id: 7, method: 'run.start', params: [] })).toEqual(
      error(7, 'command.params: must be an object'),
    )
    for (const id of [-1, 1.5, '1', null])
      expect(await post(threadId, { id, method: 'run.start' })).toMatchObject({ status: 400, body: { id: null } })
    expect(await post(threadId, '{')).toMatchObject({ status: 400, body: { code: 'invalid_json' } })
    expect(await post('x', { id: 1, method: 'state.get' })).toMatchObject({ status: 422 })
  })

  test('a command that nobody knows, and one that needs a connection, are refused by name', async () => {
    const threadId = newThread()
    expect(await refused(threadId, 'run.stop')).toEqual([
      'unknown_command',
      'There is no command "run.stop". The commands: run.start, input.respond, input.inject, state.get, state.listCheckpoints, state.fork, agent.getTree, subscription.reconnect.',
    ])
    expect((await refused(threadId, 'toString'))[0]).toBe('unknown_command')
    for (const method of ['subscription.subscribe', 'subscription.unsubscribe'])
      expect((await refused(threadId, method))[0]).toBe('not_supported')
  })

  test('run.start makes the thread before it answers, and a run for both kinds of readers', async () => {
    const threadId = newThread()
    const { status, body } = await on.send(threadId, 'run.start', {
      assistant_id: 'steps',
      input: { log: ['in'] },
      config: { tags: ['t'], configurable: { tone: 'kind' } },
      metadata: { from: 'test' },
      langsmith_tracer: { project_name: 'p' },
    })
    expect({ status, body }).toEqual({
      status: 200,
      body: {
        type: 'success',
        id: expect.any(Number),
        result: { run_id: expect.any(String) },
        meta: { thread_id: threadId, applied_through_seq: 0 },
      },
    })
    expect((await on.client.threads.get(threadId)).thread_id).toBe(threadId)
    const run = await on.ended(threadId, body.result.run_id)
    expect(run).toMatchObject({
      status: 'success',
      multitask_strategy: 'enqueue',
      metadata: { from: 'test' },
      kwargs: {
        input: { log: ['in'] },
        config: { tags: ['t'], configurable: { tone: 'kind' } },
        langsmith_tracer: { project_name: 'p' },
        protocol: 'v2',
        stream_mode: V2_STREAM_MODES,
        stream_subgraphs: true,
        stream_resumable: true,
      },
    })
    expect(await log(threadId)).toEqual(['in', 'first', 'second', 'third'])
  })

  test('applied_through_seq is the last event before the run', async () => {
    const threadId = newThread()
    const first = await on.run(threadId, 'steps', { log: [] })
    const stream = await on.server.request('GET', `/threads/${threadId}/runs/${first}/stream`, undefined, {
      'last-event-id': '-1',
    })
    const ids = [...(await stream.text()).matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
    const { body } = await on.send(threadId, 'run.start', { assistant_id: 'steps', input: { log: [] } })
    expect(body.meta.applied_through_seq).toBe(appliedThrough(ids.at(-1) ?? 0))
    await on.ended(threadId, body.result.run_id)
    expect((await on.send(threadId, 'state.get', {})).body.meta.applied_through_seq).toBeGreaterThan(
      appliedThrough(ids.at(-1) ?? 0),
    )
  })

  test('a run that is started while another runs waits for it, unless a strategy in either spelling says otherwise', async () => {
    const threadId = newThread()
    const gate = v7()
    const start = (params: object = {}) =>
      on.does(threadId, 'run.start', { assistant_id: 'busy', input: { hold: null }, ...params })
    await on.does(threadId, 'run.start', { assistant_id: 'steps', input: { log: [], hold: { first: gate } } })
    const again = (params: object) => start({ assistant_id: 'steps', input: { log: ['next'] }, ...params })
    const { run_id: waits } = await again({})
    expect((await on.client.runs.get(threadId, waits)).status).toBe('pending')
    for (const spelling of ['multitask_strategy', 'multitaskStrategy'])
      expect(await refused(threadId, 'run.start', { assistant_id: 'steps', input: {}, [spelling]: 'reject' })).toEqual([
        'invalid_argument',
        expect.stringContaining('The thread is busy with run'),
      ])
    const { run_id: last } = await again({ multitaskStrategy: 'rollback' })
    expect((await on.ended(threadId, last)).status).toBe('success')
    expect(await on.client.runs.list(threadId)).toHaveLength(1)
    expect(await log(threadId)).toEqual(['next', 'first', 'second', 'third'])
  })

  test('another assistant on the thread, an unknown one, and wrong parameters are refused', async () => {
    const threadId = newThread()
    const invalid = async (params: object) => {
      const [error, message] = await refused(threadId, 'run.start', params)
      expect(error).toBe('invalid_argument')
      return message
    }
    expect(await invalid({ input: {} })).toBe('params.assistant_id: is required')
    expect(await invalid({ assistant_id: 'nobody' })).toBe('There is no assistant or graph "nobody".')
    expect(await invalid({ assistant_id: v7() })).toMatch(/^The assistant .* does not exist\.$/)
    expect(await invalid({ assistant_id: 'steps', multitask_strategy: 'perhaps' })).toBe(
      'params.multitask_strategy: must be one of: reject, enqueue, interrupt, rollback',
    )
    expect(await invalid({ assistant_id: 'steps', config: { configurable: { checkpoint_id: 'x' } } })).toBe(
      'params.config.configurable.checkpoint_id: must be a UUID',
    )
    expect(await refused(threadId, 'run.start', { assistant_id: 'steps', if_not_exists: 'reject' })).toEqual([
      'no_such_run',
      expect.stringContaining('does not exist'),
    ])
    expect((await on.server.request('GET', `/threads/${threadId}`)).status).toBe(404)
    await on.run(threadId, 'steps', { log: [] })
    expect(await invalid({ assistant_id: 'approve', input: {} })).toMatch(
      /^The thread runs with the assistant .*: start the run with it, or on another thread\.$/,
    )
    const assistant = await on.client.assistants.create({ graphId: 'steps' })
    expect(await invalid({ assistant_id: assistant.assistant_id, input: {} })).toMatch(/^The thread runs with/)
    expect(await on.client.runs.list(threadId)).toHaveLength(1)
  })

  test('on a thread that waits for an answer, the input is the answer', async () => {
    const threadId = newThread()
    await on.run(threadId, 'approve', { topic: 'cake' })
    const [asked] = await on.open(threadId)
    const run = await on.ended(threadId, await on.run(threadId, 'approve', { yes: true }))
    expect(run.kwargs).toMatchObject({ input: null, command: { resume: { [asked as string]: { yes: true } } } })
    expect(await log(threadId)).toEqual(['asked cake: {"yes":true}', 'acted'])
  })

  test('an answer may be empty, and no input is none', async () => {
    const threadId = newThread()
    await on.run(threadId, 'approve', { topic: 'cake' })
    const before = await on.open(threadId)
    await on.run(threadId, 'approve', null)
    expect(await on.open(threadId)).toEqual(before)
    await on.run(threadId, 'approve', {})
    expect(await log(threadId)).toEqual(['asked cake: {}', 'acted'])
  })

  test('a run that was cancelled or stopped at a breakpoint asks nothing: the input is input', async () => {
    const threadId = newThread()
    const { run_id } = await on.does(threadId, 'run.start', {
      assistant_id: 'steps',
      input: { log: ['old'] },
      interrupt_before: ['second'],
    })
    await on.ended(threadId, run_id)
    expect((await on.client.threads.get(threadId)).status).toBe('interrupted')
    await on.run(threadId, 'steps', { log: ['new'] })
    expect(await log(threadId)).toEqual(['old', 'first', 'new', 'first', 'second', 'third'])
    const gate = v7()
    const held = await on.does(threadId, 'run.start', {
      assistant_id: 'steps',
      input: { log: ['held'], hold: { first: gate } },
    })
    await on.client.runs.cancel(threadId, held.run_id, true)
    await on.run(threadId, 'steps', { log: ['free'], hold: null })
    expect((await log(threadId)).slice(-4)).toEqual(['free', 'first', 'second', 'third'])
  })

  test('several questions at once are answered by their ids, or not at all', async () => {
    const threadId = newThread()
    await on.run(threadId, 'two', { log: [] })
    expect(await refused(threadId, 'run.start', { assistant_id: 'two', input: 'yes' })).toEqual([
      'invalid_argument',
      'The thread waits for 2 answers: give them by their ids, with input.respond.',
    ])
    const ids = await on.open(threadId)
    await on.run(threadId, 'two', Object.fromEntries(ids.map((id) => [id, 'yes'])))
    expect(await log(threadId)).toEqual(['left: "yes"', 'right: "yes"', 'after'])
  })

  test('run.start forks where its config names a checkpoint, whatever the thread waits for', async () => {
    const threadId = newThread()
    await on.run(threadId, 'approve', { topic: 'cake' })
    const history = await on.client.threads.getHistory(threadId)
    const first = history.at(-1)?.checkpoint.checkpoint_id as string
    const { run_id } = await on.does(threadId, 'run.start', {
      assistant_id: 'approve',
      input: { topic: 'tea' },
      config: { configurable: { checkpoint_id: first } },
    })
    expect((await on.ended(threadId, run_id)).kwargs.checkpoint).toEqual({ checkpoint_id: first })
    const state = await on.client.threads.getState(threadId)
    expect(state.tasks[0]?.interrupts[0]?.value).toEqual({ approve: 'tea' })
    const missing = { configurable: { checkpoint_id: v7() } }
    for (const id of [threadId, newThread()])
      expect(await refused(id, 'run.start', { assistant_id: 'approve', input: {}, config: missing })).toEqual([
        'no_such_checkpoint',
        `The thread has no checkpoint ${missing.configurable.checkpoint_id}.`,
      ])
  })

  test('state.fork runs from a checkpoint, with input or on from there', async () => {
    const threadId = newThread()
    await on.run(threadId, 'steps', { log: ['a'] })
    const history = await on.client.threads.getHistory<{ log: string[] }>(threadId)
    const at = (length: number) =>
      history.find(({ values }) => values.log?.length === length)?.checkpoint.checkpoint_id as string
    const fork = async (params: object) => {
      const { run_id, ...rest } = await on.does(threadId, 'state.fork', params)
      expect(rest).toEqual({ thread_id: threadId })
      return on.ended(threadId, run_id)
    }
    const run = await fork({ checkpoint_id: at(2), config: { tags: ['forked'] } })
    expect(run).toMatchObject({ status: 'success', kwargs: { protocol: 'v2', config: { tags: ['forked'] } } })
    expect(await log(threadId)).toEqual(['a', 'first', 'second', 'third'])
    await fork({ checkpoint_id: at(3), input: { log: ['b'] } })
    expect(await log(threadId)).toEqual(['a', 'first', 'second', 'b', 'first', 'second', 'third'])
    expect((await refused(threadId, 'state.fork', { checkpoint_id: v7() }))[0]).toBe('no_such_checkpoint')
    expect((await refused(newThread(), 'state.fork', { checkpoint_id: v7() }))[0]).toBe('no_such_checkpoint')
    expect(await refused(threadId, 'state.fork', {})).toEqual(['invalid_argument', 'params.checkpoint_id: is required'])
  })

  test('a server that shuts down says so with a status, for whoever balances load', async () => {
    const closing = await on.stack.heddle({ graphs: createCommandGraphs().graphs })
    await closing.close()
    const command = { id: 1, method: 'run.start', params: { assistant_id: 'chat', input: { messages: [] } } }
    const response = await closing.request('POST', `/threads/${newThread()}/commands`, command)
    expect(response.status).toBe(503)
    expect(await response.json()).toMatchObject({ code: 'shutting_down' })
  })
})
