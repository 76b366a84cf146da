// Commands that look, on the raw wire: state and checkpoints of any namespace, the tree of graphs, what a reader missed.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { logSeqOf } from '../../src/runs/protocol.ts'
import { until } from '../support/until.ts'
import { eachCommandServer, newThread } from './command-server.ts'

eachCommandServer((on) => {
  const refused = async (threadId: string, method: string, params: object = {}) => {
    const { status, body } = await on.send(threadId, method, params)
    return [status, body.error, body.message]
  }
  /** A thread of `family` that has asked in its subgraph, with the subgraph's namespace. */
  const asking = async () => {
    const threadId = newThread()
    const run_id = await on.run(threadId, 'family', { log: ['in'] })
    const [task] = (await on.client.threads.getState(threadId)).tasks
    return { threadId, run_id, child: `child:${task?.id}` }
  }

  test('state.get gives values and the checkpoint they are of, all of them or those asked for', async () => {
    const threadId = newThread()
    await on.run(threadId, 'approve', { topic: 'cake' })
    const state = await on.client.threads.getState(threadId)
    const id = state.checkpoint.checkpoint_id
    expect(await on.does(threadId, 'state.get', { namespace: [] }, on.other)).toEqual({
      values: { log: [], topic: 'cake' },
      checkpoint: { id, ns: '' },
    })
    expect(await on.does(threadId, 'state.get', { namespace: [], keys: ['topic', 'nothing'] })).toEqual({
      values: { topic: 'cake' },
      checkpoint: { id, ns: '' },
    })
    expect(await on.does(threadId, 'state.get', { namespace: [], keys: [] })).toEqual({
      values: {},
      checkpoint: { id, ns: '' },
    })
  })

  test('state.get sees into subgraphs, named with their task or without', async () => {
    const { threadId, child } = await asking()
    const found = { values: { log: ['in', 'prepared'] }, checkpoint: { id: expect.any(String), ns: child } }
    for (const namespace of [[child], ['child']])
      expect(await on.does(threadId, 'state.get', { namespace })).toEqual(found)
    await on.does(threadId, 'run.start', { assistant_id: 'family', input: 'yes' })
  })

  test('state.get sees into a graph that a node called like a function', async () => {
    const threadId = newThread()
    await on.run(threadId, 'nested', { log: ['in'] })
    expect(await on.does(threadId, 'state.get', { namespace: ['inner'] })).toEqual({
      values: { log: ['think'] },
      checkpoint: { id: expect.any(String), ns: expect.stringMatching(/^inner:[0-9a-f-]{36}$/) },
    })
  })

  test('a namespace that the thread does not have, and a thread that is not there, are refused', async () => {
    const { threadId } = await asking()
    for (const method of ['state.get', 'state.listCheckpoints'])
      for (const namespace of [['chil'], ['child:'], ['child', 'child'], ['%'], ['child:%'], [`child:${v7()}`]])
        expect(await refused(threadId, method, { namespace })).toEqual([
          200,
          'no_such_namespace',
          `The thread has no namespace ${JSON.stringify(namespace)}.`,
        ])
    for (const method of ['state.get', 'state.listCheckpoints', 'agent.getTree'])
      expect((await refused(newThread(), method, {}))[1]).toBe('no_such_run')
    expect(await refused(threadId, 'state.get', { namespace: 'child' })).toEqual([
      200,
      'invalid_argument',
      'params.namespace: must be an array',
    ])
    const { thread_id } = await on.client.threads.create()
    expect(await on.does(thread_id, 'state.get', {})).toEqual({ values: {} })
    expect(await on.does(thread_id, 'state.listCheckpoints', {})).toEqual({ checkpoints: [] })
  })

  test('state.listCheckpoints lists a namespace, newest first, in pages, with the node that made each', async () => {
    const threadId = newThread()
    const run_id = await on.run(threadId, 'steps', { log: ['in'] })
    const { checkpoints } = await on.does(threadId, 'state.listCheckpoints', {})
    const history = await on.client.threads.getHistory(threadId)
    expect(checkpoints).toEqual(
      history.map((state, i) => ({
        id: state.checkpoint.checkpoint_id,
        timestamp: state.created_at,
        step: 3 - i,
        ...(i < 3 && { node_name: ['third', 'second', 'first'][i] }),
        ...(state.parent_checkpoint && { parent_id: state.parent_checkpoint.checkpoint_id }),
        metadata: expect.objectContaining({ run_id, source: i === 4 ? 'input' : 'loop', graph_id: 'steps' }),
      })),
    )
    expect(checkpoints).toHaveLength(5)
    const page = await on.does(threadId, 'state.listCheckpoints', { limit: 2, before: checkpoints[1].id })
    expect(page.checkpoints).toEqual(checkpoints.slice(2, 4))
    expect(await refused(threadId, 'state.listCheckpoints', { limit: 0 })).toEqual([
      200,
      'invalid_argument',
      'params.limit: must be at least 1',
    ])
  })

  test('state.listCheckpoints lists a subgraph', async () => {
    const { threadId, child } = await asking()
    const inner = await on.does(threadId, 'state.listCheckpoints', { namespace: ['child'] })
    expect(inner.checkpoints.map(({ step }: { step: number }) => step)).toEqual([0, -1])
    expect(await on.does(threadId, 'state.listCheckpoints', { namespace: [child] })).toEqual(inner)
  })

  test('agent.getTree follows a run from its start to its end, questions between', async () => {
    const gate = v7()
    const threadId = newThread()
    const first = await on.run(threadId, 'family', { log: [], hold: gate })
    const tree = (run_id?: string) => on.does(threadId, 'agent.getTree', { run_id })
    const child = expect.stringMatching(/^child:[0-9a-f-]{36}$/)
    const node = (status: string, of: string) => ({
      tree: {
        namespace: [],
        status,
        graph_name: 'family',
        children: [{ namespace: [child], status: of, graph_name: 'child', children: [] }],
      },
    })
    expect(await tree()).toEqual(node('interrupted', 'interrupted'))
    const { run_id } = await on.does(threadId, 'run.start', { assistant_id: 'family', input: 'yes' })
    await on.gates.reached(gate)
    const running = await until('the subgraph has stored something', async () => {
      const seen = await tree()
      return seen.tree.children.length > 0 && seen
    })
    expect(running).toEqual(node('running', 'running'))
    on.gates.open(gate)
    await on.ended(threadId, run_id)
    expect(await tree()).toEqual(node('completed', 'completed'))
    expect(await tree(first)).toEqual(node('interrupted', 'interrupted'))
    expect(await refused(threadId, 'agent.getTree', { run_id: v7() })).toEqual([
      200,
      'no_such_run',
      expect.stringMatching(/^There is no run .* on this thread\.$/),
    ])
    expect(await refused(threadId, 'agent.getTree', { run_id: 'x' })).toEqual([
      200,
      'invalid_argument',
      'params.run_id: must be a UUID',
    ])
  })

  test('agent.getTree says of a run that waits, failed or was cancelled that it did', async () => {
    const [threadId, gate] = [newThread(), v7()]
    const root = async (run_id?: string) => (await on.does(threadId, 'agent.getTree', { run_id })).tree.status
    const start = (hold: string | null) =>
      on.does(threadId, 'run.start', {
        assistant_id: 'chat',
        input: { messages: [{ role: 'user', content: hold === null ? 'hi' : `hold ${hold}` }] },
      })
    const running = await start(gate)
    await on.gates.reached(gate)
    const waiting = await start(null)
    expect([await root(), await root(running.run_id), await root(waiting.run_id)]).toEqual([
      'running',
      'running',
      'started',
    ])
    await on.client.runs.cancel(threadId, running.run_id, true)
    await on.ended(threadId, waiting.run_id)
    expect([await root(running.run_id), await root(waiting.run_id)]).toEqual(['interrupted', 'completed'])
    const other = newThread()
    const failing = await on.run(other, 'steps', { log: [], fail: { first: 'error' } })
    expect((await on.does(other, 'agent.getTree', { run_id: failing })).tree.status).toBe('failed')
  })

  test('subscription.reconnect says what came since, and whether it is all still there', async () => {
    const threadId = newThread()
    const run_id = await on.run(threadId, 'steps', { log: [] })
    const { body } = await on.send(threadId, 'state.get', {})
    const last: number = body.meta.applied_through_seq
    const reconnect = (params: object) => on.does(threadId, 'subscription.reconnect', { run_id, ...params }, on.other)
    const current_namespaces = [{ namespace: [], status: 'completed' }]
    expect(await reconnect({ last_event_id: String(last) })).toEqual({
      restored: true,
      missed_events: 0,
      current_namespaces,
    })
    expect(await reconnect({ last_event_id: `synth:${run_id}:${last - 20_000}` })).toEqual({
      restored: true,
      missed_events: 2,
      current_namespaces,
    })
    expect(await reconnect({})).toEqual({ restored: true, missed_events: logSeqOf(last), current_namespaces })
    expect(await refused(threadId, 'subscription.reconnect', { run_id, last_event_id: 'x' })).toEqual([
      200,
      'invalid_argument',
      'params.last_event_id: must be the event_id of an event of this thread',
    ])
    expect((await refused(threadId, 'subscription.reconnect', { run_id: v7() }))[1]).toBe('no_such_run')
  })
})
