// What a run can be asked for besides its input: where to stop, where to go on from, what it is configured with.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { eachRunServer, named } from './run-server.ts'

interface Log {
  log: string[]
}

eachRunServer((server) => {
  const wait = async (threadId: string, graph: string, options: object = {}): Promise<Log> =>
    (await server.client.runs.wait(threadId, graph, options)) as unknown as Log
  const ids = async (threadId: string) =>
    (await server.client.threads.getHistory<Log>(threadId, { limit: 100 })).map((state) => ({
      id: state.checkpoint.checkpoint_id as string,
      next: state.next,
      log: state.values.log,
    }))

  test('a run stops before the nodes it is told to stop before, and goes on from there', async () => {
    const threadId = await server.thread()
    const first = await wait(threadId, 'steps', { input: { log: [] }, interruptBefore: ['second'] })
    expect(first.log).toEqual(['first'])
    expect(await server.client.threads.get(threadId)).toMatchObject({ status: 'interrupted', interrupts: {} })
    expect((await wait(threadId, 'steps', { interruptAfter: ['second'] })).log).toEqual(['first', 'second'])
    expect((await server.client.threads.getState(threadId)).next).toEqual(['third'])
    expect((await wait(threadId, 'steps')).log).toEqual(['first', 'second', 'third'])
    expect(await server.client.threads.get(threadId)).toMatchObject({ status: 'idle' })
  })

  test('* stands for every node', async () => {
    const before = await server.thread()
    expect((await wait(before, 'steps', { input: { log: ['in'] }, interruptBefore: '*' })).log).toEqual(['in'])
    expect((await wait(before, 'steps', { interruptBefore: '*' })).log).toEqual(['in', 'first'])
    const after = await server.thread()
    expect((await wait(after, 'steps', { input: { log: ['in'] }, interruptAfter: '*' })).log).toEqual(['in', 'first'])
    expect((await wait(after, 'steps', { interruptAfter: ['*'] })).log).toEqual(['in', 'first', 'second'])
  })

  test('a command updates the state, goes to a node, or does both', async () => {
    const threadId = await server.thread()
    expect((await wait(threadId, 'choose', { input: { log: [] } })).log).toEqual(['start'])
    expect((await wait(threadId, 'choose', { command: { goto: 'left' } })).log).toEqual(['start', 'left'])
    const both = await wait(threadId, 'choose', { command: { update: { log: ['mine'] }, goto: 'right' } })
    expect(both.log).toEqual(['start', 'left', 'mine', 'right', 'left from right'])
    const pairs = {
      update: [
        ['log', ['one']],
        ['log', ['two']],
      ],
      goto: { node: 'left', input: { word: 'sent' } },
    }
    expect((await wait(threadId, 'choose', { command: pairs })).log.slice(5)).toEqual(['one', 'two', 'left sent'])
    const many = await wait(threadId, 'choose', {
      command: { goto: ['left', { node: 'left', input: { word: 'again' } }] },
    })
    expect(many.log.slice(8).sort()).toEqual(['left', 'left again'])
  })

  test('a run is resumed with whatever the answer is, null and false too', async () => {
    for (const answer of ['yes', false, 0, { deep: [1] }, ['a']]) {
      const threadId = await server.thread()
      await wait(threadId, 'approve', { input: { topic: 'cake' } })
      const { log } = await wait(threadId, 'approve', { command: { resume: answer } })
      expect(log).toEqual([`asked cake: ${JSON.stringify(answer)}`, 'acted'])
    }
  })

  test('an answer can name its interrupt; strict, it must name an open one', async () => {
    const { client } = server
    const threadId = await server.thread()
    await wait(threadId, 'approve', { input: { topic: 'cake' } })
    const before = await client.threads.getState(threadId)
    const body = { assistant_id: 'approve', strict_resume: true, command: { resume: { ['0'.repeat(32)]: 'yes' } } }
    const refused = await (await server.request('POST', `/threads/${threadId}/runs/wait`, body)).json()
    expect(refused).toMatchObject({ __error__: { error: 'UnknownInterruptError' } })
    expect(await client.threads.getState(threadId)).toEqual(before)
    const id = Object.values((await client.threads.get(threadId)).interrupts)[0]?.[0]?.id as string
    expect(id).toEqual(expect.any(String))
    const { log } = await wait(threadId, 'approve', { command: { resume: { [id]: 'yes' } } })
    expect(log).toEqual(['asked cake: "yes"', 'acted'])
  })

  test('a run from an older checkpoint forks the thread, named either way', async () => {
    const threadId = await server.thread()
    await wait(threadId, 'steps', { input: { log: ['in'] } })
    const before = await ids(threadId)
    const old = before.find(({ next }) => next[0] === 'third') as (typeof before)[number]
    const ways = [
      { checkpointId: old.id },
      { checkpoint: { checkpoint_id: old.id, checkpoint_ns: '' } },
      { config: { configurable: { checkpoint_id: old.id } } },
    ]
    for (const way of ways) {
      const forked = await wait(threadId, 'steps', { ...way, input: null })
      expect(forked.log).toEqual(['in', 'first', 'second', 'third'])
      const state = await server.client.threads.getState(threadId)
      expect(state.parent_checkpoint?.checkpoint_id).not.toBe(before[0]?.id)
    }
    expect(await ids(threadId)).toEqual(expect.arrayContaining(before))
    const anew = await wait(threadId, 'steps', { checkpointId: old.id, input: { log: ['again'] } })
    expect(anew.log).toEqual(['in', 'first', 'second', 'again', 'first', 'second', 'third'])
  })

  test('durability says how often the state is stored on the way, and not what it is in the end', async () => {
    const stored: Record<string, number> = {}
    for (const durability of ['sync', 'async', 'exit'] as const) {
      const threadId = await server.thread()
      expect((await wait(threadId, 'steps', { input: { log: [] }, durability })).log).toEqual([
        'first',
        'second',
        'third',
      ])
      stored[durability] = (await ids(threadId)).length
    }
    expect(stored).toEqual({ sync: 5, async: 5, exit: 1 })
  })

  test("an assistant's config says the durability of runs that do not", async () => {
    const { client } = server
    const durability = 'exit'
    const assistant = await client.assistants.create({ graphId: 'steps', config: { durability } as object })
    const [said, unsaid] = [await server.thread(), await server.thread()]
    await wait(said, assistant.assistant_id, { input: { log: [] }, durability: 'sync' })
    await wait(unsaid, assistant.assistant_id, { input: { log: [] } })
    expect([(await ids(said)).length, (await ids(unsaid)).length]).toEqual([5, 1])
    const [run] = await client.runs.list(unsaid)
    expect((run as unknown as { kwargs: unknown }).kwargs).toMatchObject({ durability: 'exit' })
    const refused = await server.request('POST', '/assistants', { graph_id: 'steps', config: { durability: 'never' } })
    expect([refused.status, ((await refused.json()) as { detail: string }).detail]).toEqual([
      422,
      expect.stringContaining('config.durability: must be one of: sync, async, exit'),
    ])
  })

  test('checkpoint_during is durability by its older name', async () => {
    const [often, once] = [await server.thread(), await server.thread()]
    await wait(often, 'steps', { input: { log: [] }, checkpointDuring: true })
    await wait(once, 'steps', { input: { log: [] }, checkpointDuring: false })
    expect([(await ids(often)).length, (await ids(once)).length]).toEqual([5, 1])
  })

  test('config, context and metadata of assistant, thread and run are merged, the nearest first', async () => {
    const { client } = server
    const assistant = await client.assistants.create({
      graphId: 'report',
      config: { tags: ['a'], recursion_limit: 11, configurable: { of: 'assistant', assistant: 1 } },
      context: { tone: 'warm', size: 1 },
      metadata: { of: 'assistant', assistant: 1 },
    })
    const thread = await client.threads.create({ metadata: { of: 'thread', thread: 1 } })
    const { seen } = (await client.runs.wait(thread.thread_id, assistant.assistant_id, {
      input: { ask: 'x' },
      config: { recursion_limit: 12, configurable: { of: 'run', run: 1, run_id: 'mine', thread_id: 'mine' } },
      context: { size: 2 },
      metadata: { of: 'run', run: 1 },
    })) as unknown as { seen: Record<string, Record<string, unknown>> }
    const [run] = await client.runs.list(thread.thread_id)
    expect(seen.configurable).toEqual({
      of: 'run',
      assistant: 1,
      run: 1,
      run_id: run?.run_id,
      thread_id: thread.thread_id,
      graph_id: 'report',
      assistant_id: assistant.assistant_id,
    })
    expect(seen.metadata).toMatchObject({
      of: 'run',
      assistant: 1,
      thread: 1,
      run: 1,
      run_id: run?.run_id,
      thread_id: thread.thread_id,
      graph_id: 'report',
      run_attempt: 1,
      langgraph_host: 'self-hosted',
    })
    expect(seen.context).toEqual({ tone: 'warm', size: 2 })
    expect([seen.tags, seen.recursionLimit]).toEqual([['a'], 12])
    expect(run?.metadata).toMatchObject({ of: 'run', assistant: 1, thread: 1, run: 1, graph_id: 'report' })
    const stored = (await client.threads.get(thread.thread_id)).metadata
    expect(stored).toEqual({ of: 'thread', thread: 1, graph_id: 'report', assistant_id: assistant.assistant_id })
    const state = await client.threads.getState(thread.thread_id)
    expect(state.metadata).toMatchObject({ of: 'run', run_id: run?.run_id })
  })

  test('a run takes its assistant as it is now, however often it was used before', async () => {
    const { client } = server
    const { assistant_id } = await client.assistants.create({
      graphId: 'report',
      config: { configurable: { tone: 'warm' } },
      metadata: { team: 'a' },
    })
    const report = async (threadId: string | null) => {
      const said = await client.runs.wait(threadId as string, assistant_id, { input: { ask: 'x' } })
      const { configurable, metadata } = (said as unknown as { seen: Record<string, Record<string, unknown>> }).seen
      return [configurable?.tone, metadata?.team, metadata?.of]
    }
    const thread = await client.threads.create({ metadata: { of: 'thread' } })
    for (const _ of [1, 2]) expect(await report(thread.thread_id)).toEqual(['warm', 'a', 'thread'])
    expect(await report(null)).toEqual(['warm', 'a', undefined])
    await client.assistants.update(assistant_id, {
      config: { configurable: { tone: 'cool' } },
      metadata: { team: 'b' },
    })
    expect(await report(thread.thread_id)).toEqual(['cool', 'b', 'thread'])
    await client.assistants.update(assistant_id, { config: { configurable: { tone: 'cold' } } })
    expect(await report(null)).toEqual(['cold', 'b', undefined])
    await client.assistants.delete(assistant_id)
    for (const id of [thread.thread_id, null])
      await expect(report(id)).rejects.toThrow(`The assistant ${assistant_id} does not exist.`)
  })

  test('headers that begin with x- become config, secrets never do', async () => {
    const threadId = await server.thread()
    const secrets = {
      'x-api-key': 's3cret',
      authorization: 'Bearer s3cret',
      cookie: 's3cret',
      'x-tenant-id': 's3cret',
      'x-service-key': 's3cret',
    }
    const answer = await server.request(
      'POST',
      `/threads/${threadId}/runs/wait`,
      { assistant_id: 'report', input: { ask: 'x' }, config: { configurable: { 'x-user': 'body' } } },
      { 'X-User': 'ann', 'x-Trace': 't1', accept: 'application/json', 'user-agent': 'tests/1', ...secrets },
    )
    const { seen } = (await answer.json()) as { seen: { configurable: Record<string, unknown> } }
    expect(seen.configurable).toMatchObject({ 'x-user': 'ann', 'x-trace': 't1', 'user-agent': 'tests/1' })
    expect(Object.keys(seen.configurable).sort()).toEqual(
      ['assistant_id', 'graph_id', 'run_id', 'thread_id', 'user-agent', 'x-trace', 'x-user'].sort(),
    )
    const [run] = await server.client.runs.list(threadId)
    const everything = JSON.stringify([
      run,
      await server.client.threads.getHistory(threadId),
      await server.client.threads.get(threadId),
    ])
    expect(everything).not.toContain('s3cret')
  })

  test('a run that is to start later waits, others go before it, and then it runs', async () => {
    const { client } = server
    const threadId = await server.thread()
    const asked = Date.now()
    const later = await client.runs.create(threadId, 'steps', { input: { log: ['later'] }, afterSeconds: 1 })
    expect(later.status).toBe('pending')
    expect((await client.threads.get(threadId)).status).toBe('busy')
    const now = await client.runs.create(threadId, 'steps', { input: { log: ['now'] } })
    await client.runs.join(threadId, now.run_id)
    expect((await client.runs.get(threadId, later.run_id)).status).toBe('pending')
    await client.runs.join(threadId, later.run_id)
    expect(Date.now() - asked).toBeGreaterThan(950)
    const { values } = await client.threads.get(threadId)
    expect((values as unknown as Log).log).toEqual([
      'now',
      'first',
      'second',
      'third',
      'later',
      'first',
      'second',
      'third',
    ])
  })

  test('feedback_keys and a tracer are taken', async () => {
    const threadId = await server.thread()
    const body = {
      assistant_id: 'steps',
      input: { log: [] },
      feedback_keys: ['thumbs'],
      langsmith_tracer: { project_name: 'p' },
    }
    expect((await server.request('POST', `/threads/${threadId}/runs`, body)).status).toBe(200)
  })

  test('input and command together are refused, and a command that says nothing', async () => {
    const threadId = await server.thread()
    const status = async (body: object) =>
      (await server.request('POST', `/threads/${threadId}/runs`, { assistant_id: 'approve', ...body })).status
    expect(await status({ input: { topic: 'a' }, command: { resume: 1 } })).toBe(422)
    expect(await status({ command: {} })).toBe(422)
    expect(await status({ command: { resumed: 1 } })).toBe(422)
    expect(await status({ durability: 'never' })).toBe(422)
    expect(await status({ after_seconds: -1 })).toBe(422)
    expect(await server.client.runs.list(threadId)).toEqual([])
  })

  test('a client that leaves cancels its run where it asked for that, and does not where it did not', async () => {
    const { client } = server
    for (const kind of ['stream', 'wait']) {
      for (const on_disconnect of ['cancel', 'continue']) {
        const threadId = await server.thread()
        const gate = v7()
        const stop = new AbortController()
        const asked = server.server.heddle.fetch(
          new Request(`http://heddle.test/threads/${threadId}/runs/${kind}`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ assistant_id: 'steps', input: { hold: { second: gate } }, on_disconnect }),
            signal: stop.signal,
          }),
        )
        const answer = await asked
        expect(answer.status).toBe(200)
        await server.gates.reached(gate)
        stop.abort()
        const runId = (answer.headers.get('content-location') as string).split('/').at(-1) as string
        if (on_disconnect === 'continue') server.gates.open(gate)
        await client.runs.join(threadId, runId)
        const run = await client.runs.get(threadId, runId)
        const left = { status: 'interrupted', cancel_reason: 'the client disconnected (on_disconnect=cancel)' }
        expect([run.status, run.cancel_reason], `${kind} ${on_disconnect}`).toEqual(
          on_disconnect === 'cancel' ? [left.status, left.cancel_reason] : ['success', null],
        )
      }
    }
  })

  test('who joins can ask that the run ends when they leave', async () => {
    const { client } = server
    for (const kind of ['stream', 'join']) {
      const threadId = await server.thread()
      const gate = v7()
      const run = await client.runs.create(threadId, 'steps', { input: { hold: { first: gate } } })
      await server.gates.reached(gate)
      const stop = new AbortController()
      const path = `http://heddle.test/threads/${threadId}/runs/${run.run_id}/${kind}?cancel_on_disconnect=1`
      const answer = await server.server.heddle.fetch(new Request(path, { signal: stop.signal }))
      const reading = answer.text().catch(() => '')
      stop.abort()
      await reading
      await until(
        'the run is cancelled',
        async () => (await client.runs.get(threadId, run.run_id)).status === 'interrupted',
      )
      expect((await client.runs.get(threadId, run.run_id)).cancel_reason).toBe(
        'a client disconnected (cancel_on_disconnect)',
      )
    }
  })

  test('the attempt is told first', async () => {
    const threadId = await server.thread()
    const [first] = await (await server.stream(threadId, { assistant_id: 'steps', input: {} })).rest()
    expect(named(first ? [first] : [])).toEqual([['metadata', { run_id: expect.any(String), attempt: 1 }]])
  })
})
