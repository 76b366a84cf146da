// One suite for both executors: what a graph does, what the server hears of it, and what survives when it goes wrong.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Job, StreamEvent } from '../../src/executor/protocol.ts'
import { type Bench, dataOf, GRAPHS, sources, startBench, valuesOf } from '../support/executors.ts'
import { until } from '../support/until.ts'

const ALL = [
  'echo', 'tokens', 'steps', 'ask', 'wait', 'spin', 'thrower', 'careless', 'unserialisable', 'flood', 'parent', 'agent',
  'tokenAgent', 'functional', 'promised', 'made', 'router', 'look', 'askAll',
] // biome-ignore format: a list of names
const human = (content: string) => ({ messages: [{ role: 'human', content }] })

const scratch = mkdtempSync(join(tmpdir(), 'heddle-executor-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const witness = () => join(scratch, crypto.randomUUID())
const linesOf = (path: string) => {
  try {
    return readFileSync(path, 'utf8').trim().split('\n')
  } catch {
    return []
  }
}

describe.each(['child', 'inline'] as const)('the %s executor', (mode) => {
  let bench: Bench
  beforeAll(async () => {
    bench = await startBench(mode, sources(...ALL))
  })
  afterAll(() => bench.executor.close())

  describe('runs', () => {
    it('a graph to its end and gives the final state', async () => {
      const { outcome, events } = await bench.run('echo', { input: human('hi') })
      expect(outcome.kind).toBe('success')
      expect(valuesOf(outcome)).toMatchObject({
        messages: [
          { type: 'human', content: 'hi' },
          { type: 'ai', content: 'echo: hi' },
        ],
      })
      expect(outcome).toMatchObject({ state: { next: [], interrupts: {} } })
      expect(events).toEqual([])
    })

    it('without asking the storage anything on a fresh thread', async () => {
      const before = { ...bench.memory.calls }
      await bench.run('echo', { input: human('hi') })
      expect(bench.memory.calls).toEqual(before)
    })

    it('on from the state of the thread', async () => {
      const thread_id = crypto.randomUUID()
      await bench.run('echo', { input: human('one') }, { thread_id })
      const { outcome } = await bench.run('echo', { input: human('two') }, { thread_id })
      expect((valuesOf(outcome) as { messages: { content: string }[] }).messages.map((m) => m.content)).toEqual([
        'one',
        'echo: one',
        'two',
        'echo: two',
      ])
    })

    it('with its own checkpointer left out, in every durability', async () => {
      for (const durability of ['sync', 'async', 'exit'] as const) {
        const thread_id = crypto.randomUUID()
        const { outcome } = await bench.run('steps', { input: {}, durability }, { thread_id })
        expect(valuesOf(outcome)).toEqual({ log: ['a', 'b', 'c'] })
        expect(bench.memory.checkpoints(thread_id).length).toBe(durability === 'exit' ? 1 : 5)
      }
    })

    it('and stores who ran it, but no secret', async () => {
      const job = bench.job(
        'echo',
        {
          input: human('hi'),
          config: { configurable: { authorization: 'Bearer x', langgraph_auth_user: { identity: 'me' } } },
        },
        { metadata: { team: 'blue', 'x-api-key': 'k' }, attempt: 2 },
      )
      await bench.executor.run(job, bench.sink()).outcome
      const stored = bench.memory.checkpoints(job.thread_id)
      expect(stored.at(-1)?.metadata).toMatchObject({
        run_id: job.run_id,
        run_attempt: 2,
        graph_id: 'echo',
        assistant_id: job.assistant_id,
        team: 'blue',
        source: 'loop',
        step: 1,
      })
      expect(JSON.stringify(stored.map((put) => put.metadata))).not.toMatch(/Bearer|x-api-key|identity|thread_id/)
    })

    it("with objects that are instances of the project's own classes", async () => {
      const { outcome } = await bench.run('look', { input: human('hi'), context: { tone: 'kind' } })
      expect((valuesOf(outcome) as { seen: unknown }).seen).toMatchObject({
        human: true,
        tool: false,
        checkpointer: true,
        store: true,
        item: { text: 'kept' },
        created: true,
        context: { tone: 'kind' },
      })
    })

    it('functional entrypoints, promises, agents and factories', async () => {
      expect(valuesOf((await bench.run('functional', { input: { name: 'Ada' } })).outcome)).toEqual({
        greeting: 'hello Ada',
      })
      expect(valuesOf((await bench.run('promised', { input: human('p') })).outcome)).toMatchObject({
        messages: [{}, { content: 'echo: p' }],
      })
      const { outcome } = await bench.run('agent', { input: human('add') })
      expect((valuesOf(outcome) as { messages: { type: string }[] }).messages.map((m) => m.type)).toEqual([
        'human',
        'ai',
        'tool',
        'ai',
      ])
      const config = { configurable: { tenant: 'acme' } }
      expect(valuesOf((await bench.run('made', { input: { context: '' }, config })).outcome)).toEqual({
        context: 'threads.create_run',
        tenant: 'acme',
        has_store: true,
      })
    })
  })

  describe('streams', () => {
    it('values and updates as the graph makes them', async () => {
      const { events } = await bench.run('steps', { input: { die_in: '' }, stream_mode: ['values', 'updates'] })
      expect(events.map(({ event, data }) => [event, JSON.parse(data)])).toEqual([
        ['values', { die_in: '', log: [] }],
        ['updates', { a: { log: ['a'] } }],
        ['values', { die_in: '', log: ['a'] }],
        ['updates', { b: { log: ['b'] } }],
        ['values', { die_in: '', log: ['a', 'b'] }],
        ['updates', { c: { log: ['c'] } }],
        ['values', { die_in: '', log: ['a', 'b', 'c'] }],
      ])
    })

    it('messages-tuple as [chunk, metadata]', async () => {
      const { events } = await bench.run('tokens', {
        input: { ...human('x'), count: 3 },
        stream_mode: ['messages-tuple'],
      })
      const pairs = dataOf(events, 'messages') as [
        { content: string; type: string; id: string },
        { langgraph_node: string },
      ][]
      expect(events.length).toBe(pairs.length)
      expect(pairs.map(([chunk]) => chunk.content)).toEqual(['t0 ', 't1 ', 't2 '])
      expect(new Set(pairs.map(([chunk]) => `${chunk.type} ${chunk.id}`)).size).toBe(1)
      expect(pairs[0]?.[0].type).toBe('AIMessageChunk')
      expect(pairs[0]?.[1]).toMatchObject({ langgraph_node: 'model', tags: [] })
    })

    it('messages as what has come of each message so far', async () => {
      const { events } = await bench.run('tokens', { input: { ...human('x'), count: 3 }, stream_mode: ['messages'] })
      expect(events.map(({ event }) => event)).toEqual([
        'messages/metadata',
        'messages/partial',
        'messages/partial',
        'messages/partial',
      ])
      const [metadata] = dataOf(events, 'messages/metadata') as Record<string, { metadata: object }>[]
      const partials = dataOf(events, 'messages/partial') as { content: string; type: string; id: string }[][]
      expect(partials.map(([message]) => message?.content)).toEqual(['t0 ', 't0 t1 ', 't0 t1 t2 '])
      const [id] = Object.keys(metadata ?? {})
      expect(partials[0]?.[0]).toMatchObject({ id, type: 'ai' })
      expect(metadata?.[id as string]?.metadata).toMatchObject({ langgraph_node: 'model' })
    })

    it('whole messages as complete', async () => {
      const { events } = await bench.run('echo', { input: human('x'), stream_mode: ['messages'] })
      expect(events.map(({ event }) => event)).toEqual(['messages/metadata', 'messages/complete'])
      expect(dataOf(events, 'messages/complete')).toMatchObject([[{ type: 'ai', content: 'echo: x' }]])
    })

    it('tasks, checkpoints and debug', async () => {
      const { events } = await bench.run('router', { input: {}, stream_mode: ['tasks', 'checkpoints', 'debug'] })
      const tasks = dataOf(events, 'tasks') as { name: string; result?: unknown; error?: unknown }[]
      expect(
        tasks
          .filter((task) => !('result' in task))
          .map((task) => task.name)
          .sort(),
      ).toEqual(['left', 'right'])
      expect(tasks.find((task) => 'result' in task && task.name === 'left')).toMatchObject({
        result: { log: ['left sent'] },
        interrupts: [],
        error: null,
      })
      const checkpoints = dataOf(events, 'checkpoints') as { checkpoint: object; values: object; next: string[] }[]
      expect(checkpoints.map(({ next }) => next)).toEqual([['__start__'], ['left', 'right'], []])
      expect(checkpoints[2]).toMatchObject({
        values: { log: ['right', 'left sent'] },
        metadata: { source: 'loop', step: 1 },
        checkpoint: { checkpoint_ns: '', checkpoint_id: expect.any(String) },
        parent_checkpoint: {
          checkpoint_id: (checkpoints[1] as never as { checkpoint: { checkpoint_id: string } }).checkpoint
            .checkpoint_id,
        },
        parent_config: { configurable: { checkpoint_ns: '' } },
      })
      expect(JSON.stringify(events)).not.toMatch(/__pregel_checkpointer|Saver/)
      const debug = dataOf(events, 'debug') as { type: string; step: number; timestamp: string; payload: object }[]
      expect(debug.map(({ type, step }) => `${type} ${step}`)).toEqual([
        'checkpoint -1', 'checkpoint 0', 'task 1', 'task 1', 'task_result 1', 'task_result 1', 'checkpoint 1',
      ]) // biome-ignore format: a list of names
      expect(debug.at(-1)?.payload).toEqual(checkpoints[2])
    })

    it('custom data', async () => {
      const { events } = await bench.run('flood', { input: { count: 3, size: 2 }, stream_mode: ['custom'] })
      expect(dataOf(events, 'custom')).toEqual([
        { i: 0, text: 'xx' },
        { i: 1, text: 'xx' },
        { i: 2, text: 'xx' },
      ])
    })

    it('tool calls', async () => {
      const { events } = await bench.run('agent', { input: human('add'), stream_mode: ['tools'] })
      expect(dataOf(events, 'tools')).toMatchObject([
        { event: 'on_tool_start', toolCallId: 'call_1', name: 'add' },
        { event: 'on_tool_end', toolCallId: 'call_1', name: 'add', output: { type: 'tool', content: '42' } },
      ])
    })

    it('events of everything that runs, beside the other modes', async () => {
      const { events, outcome } = await bench.run('tokens', {
        input: { ...human('x'), count: 2 },
        stream_mode: ['events', 'values', 'messages-tuple'],
      })
      expect(outcome.kind).toBe('success')
      const seen = dataOf(events, 'events') as { event: string; data: { chunk?: { content: string } } }[]
      expect(
        seen.filter(({ event }) => event === 'on_chat_model_stream').map(({ data }) => data.chunk?.content),
      ).toEqual(['t0 ', 't1 '])
      expect(seen[0]?.event).toBe('on_chain_start')
      expect(seen.at(-1)?.event).toBe('on_chain_end')
      expect(dataOf(events, 'values').length).toBe(2)
      expect((dataOf(events, 'messages') as [{ content: string }][]).map(([chunk]) => chunk.content)).toEqual([
        't0 ',
        't1 ',
      ])
    })

    it('subgraphs under their namespace, when asked', async () => {
      const { events } = await bench.run('parent', { input: {}, stream_mode: ['updates'], stream_subgraphs: true })
      expect(events.map(({ event, data }) => [event.replace(/:[0-9a-f-]{36}/g, ':ID'), JSON.parse(data)])).toEqual([
        ['updates', { before: { log: ['before'] } }],
        ['updates|child:ID', { inner_one: { log: ['inner_one'] } }],
        ['updates|child:ID', { __interrupt__: [{ id: expect.any(String), value: 'may I?' }] }],
        ['updates', { __interrupt__: [{ id: expect.any(String), value: 'may I?' }] }],
      ])
    })

    it('no subgraphs otherwise, but their lifecycle', async () => {
      const { events } = await bench.run('parent', { input: {}, stream_mode: ['updates', 'lifecycle'] })
      expect(events.map(({ event }) => event.replace(/:[0-9a-f-]{36}/g, ':ID'))).toEqual([
        'updates',
        'lifecycle|child:ID',
        'updates',
        'lifecycle|child:ID',
      ])
      const [started, ended] = events
        .filter(({ event }) => event.startsWith('lifecycle'))
        .map(({ data }) => JSON.parse(data))
      expect(started).toEqual({ event: 'started', namespace: [expect.stringMatching(/^child:/)] })
      expect(ended).toEqual({ event: 'interrupted', namespace: started.namespace })
    })

    it('64 runs at once without losing a token', async () => {
      const runs = await Promise.all(
        Array.from({ length: 64 }, () =>
          bench.run('tokens', { input: { ...human('x'), count: 100 }, stream_mode: ['messages-tuple'] }),
        ),
      )
      const expected = Array.from({ length: 100 }, (_, i) => `t${i} `).join('')
      for (const { outcome, events } of runs) {
        expect(outcome.kind).toBe('success')
        expect((dataOf(events, 'messages') as [{ content: string }][]).map(([chunk]) => chunk.content).join('')).toBe(
          expected,
        )
      }
    })

    it('no faster than the server takes it', async () => {
      const sink = bench.sink()
      const held: (() => void)[] = []
      let bytes = 0
      const slow = {
        ...sink,
        events: (events: StreamEvent[]) => {
          bytes += events.reduce((sum, { data }) => sum + data.length, 0)
          return new Promise<void>((resolve) => held.push(resolve))
        },
      }
      const run = bench.executor.run(
        bench.job('flood', { input: { count: 400, size: 20_000 }, stream_mode: ['custom'] }),
        slow,
      )
      await until('a window of events', () => bytes > 1024 * 1024)
      // Everything that can arrive has arrived when other work has gone through both ends.
      for (let i = 0; i < 5; i++) await bench.run('echo', { input: human('x') })
      expect(bytes).toBeLessThan(2 * 1024 * 1024)
      let ended = false
      void run.outcome.then(() => {
        ended = true
      })
      await until('the end of the run', () => {
        for (const release of held.splice(0)) release()
        return ended
      })
      expect(bytes).toBeGreaterThan(400 * 20_000)
      expect((await run.outcome).kind).toBe('success')
    })
  })

  describe('interrupts', () => {
    it('end a run with what is asked, and a command goes on', async () => {
      const thread_id = crypto.randomUUID()
      const first = await bench.run('ask', { input: { question: 'ok?' }, stream_mode: ['values'] }, { thread_id })
      if (first.outcome.kind !== 'success') throw new Error(first.outcome.kind)
      const [interrupts] = Object.values(first.outcome.state.interrupts)
      expect(first.outcome.state.next).toEqual(['ask'])
      expect(interrupts).toEqual([{ id: expect.stringMatching(/^[0-9a-f]{32}$/), value: { question: 'ok?' } }])
      expect(dataOf(first.events, 'values').at(-1)).toEqual({ __interrupt__: interrupts })

      const second = await bench.run('ask', { command: { resume: { yes: true } } }, { thread_id })
      expect(valuesOf(second.outcome)).toEqual({ question: 'ok?', answer: { yes: true } })
      expect(second.outcome).toMatchObject({ state: { next: [], interrupts: {} } })
    })

    it('that are answered are open no longer, while others of their step are', async () => {
      const thread_id = crypto.randomUUID()
      type Open = { id: string; value: string }
      let { outcome } = await bench.run('askAll', { input: {} }, { thread_id })
      for (const left of [['one?', 'two?', 'three?'], ['two?', 'three?'], ['two?'], []]) {
        if (outcome.kind !== 'success') throw new Error(outcome.kind)
        const open = Object.values(outcome.state.interrupts).flat() as Open[]
        expect(open.map(({ value }) => value)).toEqual(left)
        const asked = { graph_id: 'askAll', thread_id, config: {}, subgraphs: false, select: ['interrupts'] }
        const state = await bench.executor.call('state.get', asked)
        expect(JSON.parse(state?.text ?? '')).toEqual({ interrupts: open })
        const next = open.find(({ value }) => value === (left.length === 2 ? 'three?' : left[0]))
        if (next) {
          const resume = { [next.id]: `to ${next.value}` }
          outcome = (await bench.run('askAll', { command: { resume } }, { thread_id })).outcome
        }
      }
      expect(valuesOf(outcome)).toEqual({ answers: ['to one?', 'to two?'] })
    })

    it('before and after nodes stop there', async () => {
      const thread_id = crypto.randomUUID()
      const one = await bench.run('steps', { input: {}, interrupt_before: ['b'] }, { thread_id })
      expect(one.outcome).toMatchObject({ kind: 'success', state: { next: ['b'], interrupts: {} } })
      const two = await bench.run('steps', { input: null, interrupt_after: '*' }, { thread_id })
      expect(valuesOf(two.outcome)).toEqual({ log: ['a', 'b'] })
      const three = await bench.run('steps', { input: null }, { thread_id })
      expect(valuesOf(three.outcome)).toEqual({ log: ['a', 'b', 'c'] })
    })

    it('with a strict resume that names none that is open fail and change nothing', async () => {
      const thread_id = crypto.randomUUID()
      const first = await bench.run('ask', { input: { question: 'ok?' } }, { thread_id })
      const command = { resume: { ['0'.repeat(32)]: 'yes' } }
      const { outcome } = await bench.run('ask', { command, strict_resume: true }, { thread_id })
      expect(outcome).toMatchObject({ kind: 'error', error: { error: 'UnknownInterruptError' } })
      if (outcome.kind !== 'error' || first.outcome.kind !== 'success') throw new Error(outcome.kind)
      expect(outcome.state).toEqual(first.outcome.state)
    })

    it('are answered together with an update and a goto', async () => {
      const { outcome } = await bench.run('router', {
        command: { update: { log: ['u'] }, goto: { node: 'left', input: { note: 'g' } } },
      })
      expect(valuesOf(outcome)).toEqual({ log: ['u', 'left g'] })
      const pairs = await bench.run('router', { command: { update: [['log', ['p']]], goto: ['right'] } })
      expect(valuesOf(pairs.outcome)).toEqual({ log: ['p', 'right'] })
    })
  })

  describe('failures', () => {
    it.each([
      ['null', { error: 'TypeError', message: expect.stringContaining('null') }],
      ['string', { error: 'TypeError', message: expect.stringContaining('a text') }],
      ['object', { error: 'Error', message: '{"code":5}' }],
      ['getter', { error: 'Error', message: expect.any(String) }],
      ['bare', { error: 'Error', message: 'bare' }],
      ['cyclic', { error: 'Error', message: 'cyclic' }],
      ['type', { error: 'TypeError', message: 'wrong type' }],
    ])('of a graph that throws (%s) are an outcome', async (kind, error) => {
      const { outcome } = await bench.run('thrower', { input: { kind } })
      expect(outcome).toMatchObject({ kind: 'error', error })
      expect(valuesOf(outcome)).toEqual({ kind })
    })

    it('with a long message are cut to 8 KiB', async () => {
      const { outcome } = await bench.run('thrower', { input: { kind: 'long' } })
      if (outcome.kind !== 'error') throw new Error(outcome.kind)
      expect(outcome.error.error).toBe('RangeError')
      expect(Buffer.byteLength(outcome.error.message)).toBeLessThanOrEqual(8 * 1024)
      expect(outcome.error.message).toMatch(/^x{8000}/)
    })

    it('to store a value name the channel and store nothing of the step', async () => {
      const thread_id = crypto.randomUUID()
      const { outcome } = await bench.run('unserialisable', { input: { fine: 'start' } }, { thread_id })
      expect(outcome).toMatchObject({ kind: 'error', error: { message: expect.stringContaining('channel "bad"') } })
      expect(valuesOf(outcome)).toEqual({ fine: 'yes' })
      expect(bench.memory.checkpoints(thread_id).map((put) => put.metadata.step)).toEqual([-1, 0, 1])
    })

    it('that nobody waited for are a crash of their run, and are reported', async () => {
      if (mode === 'inline') return // The process belongs to the program, and so do its unhandled rejections.
      const { outcome } = await bench.run('careless', { input: { kind: 'x' } })
      const cause = 'left a rejected promise unhandled: Error: nobody waits'
      expect(outcome).toEqual({ kind: 'crashed', cause, blame: 'culprit' })
      expect(bench.observations).toContainEqual({
        kind: 'executor_output',
        stream: 'stderr',
        text: expect.stringContaining('nobody waits'),
      })
    })

    it('of the recursion limit are named', async () => {
      const { outcome } = await bench.run('steps', { input: {}, config: { recursion_limit: 1 } })
      expect(outcome).toMatchObject({ kind: 'error', error: { error: 'GraphRecursionError' } })
    })

    it('of a graph that does not exist are an outcome too', async () => {
      const { outcome } = await bench.run('nothing', { input: {} })
      expect(outcome).toEqual({ kind: 'error', error: { error: 'ApiError', message: 'There is no graph "nothing".' } })
    })
  })

  describe('aborts', () => {
    it('reach the signal with their reason, and the outcome follows', async () => {
      const file = witness()
      const run = bench.executor.run(bench.job('wait', { input: { witness: file } }), bench.sink())
      await until('the node to wait', () => linesOf(file).includes('waiting'))
      run.abort('cancel')
      const outcome = await run.outcome
      expect(outcome).toMatchObject({ kind: 'aborted', reason: 'cancel', state: { next: ['wait'] } })
      expect(valuesOf(outcome)).toEqual({ witness: file, done: false })
      expect(linesOf(file)).toEqual(['waiting', 'RunAborted cancel'])
    })

    it('come when the server takes no more of the run', async () => {
      const run = bench.executor.run(bench.job('steps', { input: {}, durability: 'sync' }), {
        ...bench.sink(),
        put: () => Promise.reject(new Error('the lease is lost')),
      })
      expect(await run.outcome).toMatchObject({ kind: 'aborted', reason: 'lease_lost' })
    })

    it('before the first step stop the run as well', async () => {
      const run = bench.executor.run(bench.job('wait', { input: { witness: witness() } }), bench.sink())
      run.abort('timeout')
      expect(await run.outcome).toMatchObject({ kind: 'aborted', reason: 'timeout' })
    })
  })

  describe('durability', () => {
    it.each(['async', 'exit'] as const)('%s runs to the end while nothing of it is stored', async (durability) => {
      const file = witness()
      let release = () => {}
      const stored = new Promise<void>((resolve) => {
        release = resolve
      })
      const run = bench.executor.run(bench.job('steps', { input: { witness: file }, durability }), {
        ...bench.sink(),
        put: () => stored,
        writes: () => stored,
      })
      await until('all nodes to have run', () => linesOf(file).length === 3)
      release()
      expect(await run.outcome).toMatchObject({ kind: 'success' })
    })

    it('sync begins no step before the one before is stored', async () => {
      const file = witness()
      const seen: string[][] = []
      const run = bench.executor.run(bench.job('steps', { input: { witness: file }, durability: 'sync' }), {
        ...bench.sink(),
        put: async () => {
          // Time enough for a step that does not wait.
          await bench.run('echo', { input: human('meanwhile') })
          seen.push(linesOf(file).map((line) => line.slice(0, 1)))
        },
      })
      expect(await run.outcome).toMatchObject({ kind: 'success' })
      // The input, the start, and each node.
      expect(seen).toEqual([[], [], ['a'], ['a', 'b'], ['a', 'b', 'c']])
    })
  })

  describe('recovery', () => {
    it('does not run committed nodes again', async () => {
      const file = witness()
      const job = bench.job('steps', { input: { witness: file }, interrupt_before: ['c'] })
      expect(await bench.executor.run(job, bench.sink()).outcome).toMatchObject({ state: { next: ['c'] } })
      // The same run once more, as after a crash before its end was stored: nothing runs, and the breakpoint holds.
      const again = await bench.executor.run({ ...job, attempt: 2, fresh: false }, bench.sink()).outcome
      expect(again).toMatchObject({ kind: 'success', state: { next: ['c'] } })
      // And without the breakpoint it goes on from there.
      const { interrupt_before: _, ...args } = job.args
      const on = await bench.executor.run({ ...job, attempt: 3, fresh: false, args }, bench.sink()).outcome
      expect(valuesOf(on)).toMatchObject({ log: ['a', 'b', 'c'] })
      expect(linesOf(file)).toEqual(['a attempt 1', 'b attempt 1', 'c attempt 3'])
    })

    it('holds a breakpoint after a node as well', async () => {
      const job = bench.job('steps', { input: {}, interrupt_after: ['b'] })
      await bench.executor.run(job, bench.sink()).outcome
      const again = await bench.executor.run({ ...job, attempt: 2, fresh: false }, bench.sink()).outcome
      expect(again).toMatchObject({ kind: 'success', state: { next: ['c'] } })
    })

    it('starts anew when nothing was committed', async () => {
      const { outcome } = await bench.run('steps', { input: {} }, { attempt: 2 })
      expect(valuesOf(outcome)).toEqual({ log: ['a', 'b', 'c'] })
    })

    it('of a finished run runs nothing', async () => {
      const file = witness()
      const job: Job = bench.job('steps', { input: { witness: file } })
      await bench.executor.run(job, bench.sink()).outcome
      const again = await bench.executor.run({ ...job, attempt: 2, fresh: false }, bench.sink()).outcome
      expect(valuesOf(again)).toMatchObject({ log: ['a', 'b', 'c'] })
      expect(linesOf(file).length).toBe(3)
    })
  })

  describe('calls', () => {
    it('read the state, its history and a checkpoint', async () => {
      const thread_id = crypto.randomUUID()
      await bench.run('ask', { input: { question: 'ok?' } }, { thread_id })
      const common = { graph_id: 'ask', thread_id, config: {} }
      const state = JSON.parse((await bench.executor.call('state.get', { ...common, subgraphs: false }))?.text ?? '')
      expect(state).toEqual({
        values: { question: 'ok?' },
        next: ['ask'],
        tasks: [
          {
            id: expect.any(String),
            name: 'ask',
            path: ['__pregel_pull', 'ask'],
            error: null,
            interrupts: [{ id: expect.any(String), value: { question: 'ok?' } }],
            checkpoint: null,
            state: null,
            result: null,
          },
        ],
        metadata: expect.objectContaining({ source: 'loop', step: 0, thread_id }),
        created_at: expect.stringMatching(/^\d{4}-/),
        checkpoint: { thread_id, checkpoint_ns: '', checkpoint_id: expect.any(String), checkpoint_map: null },
        parent_checkpoint: { thread_id, checkpoint_ns: '', checkpoint_id: expect.any(String), checkpoint_map: null },
        interrupts: [{ id: expect.any(String), value: { question: 'ok?' } }],
      })
      const { text } = await bench.executor.call('state.history', { ...common, limit: 10 })
      const history = JSON.parse(text) as { checkpoint: { checkpoint_id: string }; next: string[] }[]
      expect(history.map(({ next }) => next)).toEqual([['ask'], ['__start__']])
      const before = { checkpoint_id: history[0]?.checkpoint.checkpoint_id as string }
      const older = await bench.executor.call('state.history', { ...common, limit: 10, before, select: ['next'] })
      expect(older.text).toBe('[{"next":["__start__"]}]')
      const at = await bench.executor.call('state.get', {
        ...common,
        subgraphs: false,
        checkpoint: { checkpoint_id: history[1]?.checkpoint.checkpoint_id as string },
        select: ['next', 'values.question', 'values.nothing'],
      })
      expect(at?.text).toBe('{"next":["__start__"],"values":{}}')
      const none = { checkpoint_id: '1f000000-0000-6000-8000-000000000000' }
      expect(await bench.executor.call('state.get', { ...common, subgraphs: false, checkpoint: none })).toBeNull()
    })

    it('read a thread that has no checkpoint as empty', async () => {
      const params = { graph_id: 'ask', thread_id: crypto.randomUUID(), config: {}, subgraphs: false }
      expect(JSON.parse((await bench.executor.call('state.get', params))?.text ?? '')).toMatchObject({
        values: {},
        next: [],
        tasks: [],
        checkpoint: { checkpoint_id: null },
        parent_checkpoint: null,
      })
    })

    it('read subgraphs, in place and by namespace', async () => {
      const thread_id = crypto.randomUUID()
      await bench.run('parent', { input: {} }, { thread_id })
      const common = { graph_id: 'parent', thread_id, config: {} }
      const flat = JSON.parse((await bench.executor.call('state.get', { ...common, subgraphs: false }))?.text ?? '')
      const { checkpoint_ns } = flat.tasks[0].checkpoint
      expect(checkpoint_ns).toMatch(/^child:/)
      expect(flat.tasks[0].state).toBeNull()
      const deep = JSON.parse((await bench.executor.call('state.get', { ...common, subgraphs: true }))?.text ?? '')
      expect(deep.tasks[0].state).toMatchObject({ values: { log: ['before', 'inner_one'] }, next: ['inner_ask'] })
      const byName = await bench.executor.call('state.get', {
        ...common,
        subgraphs: false,
        checkpoint: { checkpoint_ns },
      })
      expect(JSON.parse(byName?.text ?? '')).toMatchObject({
        values: { log: ['before', 'inner_one'] },
        checkpoint: { checkpoint_ns },
      })
      const { text } = await bench.executor.call('state.history', {
        ...common,
        limit: 10,
        checkpoint: { checkpoint_ns },
      })
      expect(JSON.parse(text).map(({ next }: { next: string[] }) => next)).toEqual([
        ['inner_ask'],
        ['inner_one'],
        ['__start__'],
      ])
      const resumed = await bench.run('parent', { command: { resume: 'yes' } }, { thread_id })
      expect(valuesOf(resumed.outcome)).toMatchObject({ answer: 'yes' })
    })

    it('update the state, and store nothing themselves', async () => {
      const thread_id = crypto.randomUUID()
      await bench.run('steps', { input: {} }, { thread_id })
      const stored = bench.memory.checkpoints(thread_id).length
      const { puts, writes, state, checkpoint } = await bench.executor.call('state.update', {
        graph_id: 'steps',
        thread_id,
        config: {},
        metadata: { by: 'me' },
        supersteps: [
          { updates: [{ values: { log: ['x'] }, as_node: 'a' }] },
          { updates: [{ values: { log: ['y'] }, as_node: 'b' }] },
        ],
      })
      expect(bench.memory.checkpoints(thread_id).length).toBe(stored)
      expect(JSON.parse(state.values)).toEqual({ log: ['a', 'b', 'c', 'x', 'y'] })
      expect(state.next).toEqual(['c'])
      expect(puts.map(({ metadata }) => metadata)).toMatchObject([
        { source: 'update', step: 4, by: 'me' },
        { source: 'update', step: 5, by: 'me' },
      ])
      expect(puts[1]?.parent_checkpoint_id).toBe(puts[0]?.checkpoint_id)
      expect(checkpoint).toEqual({ thread_id, checkpoint_ns: '', checkpoint_id: puts[1]?.checkpoint_id })
      for (const put of puts) await bench.memory.put(put)
      for (const put of writes) await bench.memory.writes(put)
      const { outcome } = await bench.run('steps', { input: null }, { thread_id })
      expect(valuesOf(outcome)).toEqual({ log: ['a', 'b', 'c', 'x', 'y', 'c'] })
    })

    it('update from nothing, from a checkpoint and with a command', async () => {
      const thread_id = crypto.randomUUID()
      const common = { graph_id: 'steps', thread_id, config: {}, metadata: {} }
      const first = await bench.executor.call('state.update', {
        ...common,
        supersteps: [{ updates: [{ values: { log: ['new'] }, as_node: '__start__' }] }],
      })
      expect(first.state).toMatchObject({ values: '{"log":["new"]}', next: ['a'] })
      for (const put of first.puts) await bench.memory.put(put)
      const fork = await bench.executor.call('state.update', {
        ...common,
        checkpoint: { checkpoint_id: first.checkpoint.checkpoint_id as string },
        supersteps: [{ updates: [{ command: { update: { log: ['by command'] } }, as_node: 'a' }] }],
      })
      expect(fork.puts[0]?.parent_checkpoint_id).toBe(first.checkpoint.checkpoint_id)
      expect(JSON.parse(fork.state.values)).toEqual({ log: ['new', 'by command'] })
    })

    it('update a subgraph that stands at an interrupt', async () => {
      const thread_id = crypto.randomUUID()
      const { outcome } = await bench.run('parent', { input: {} }, { thread_id })
      if (outcome.kind !== 'success') throw new Error(outcome.kind)
      const [task] = Object.keys(outcome.state.interrupts)
      const { puts, writes, checkpoint } = await bench.executor.call('state.update', {
        graph_id: 'parent',
        thread_id,
        config: {},
        checkpoint: { checkpoint_ns: `child:${task}` },
        metadata: {},
        supersteps: [{ updates: [{ values: { log: ['edited'] }, as_node: 'inner_one' }] }],
      })
      expect(checkpoint).toMatchObject({ checkpoint_ns: `child:${task}`, checkpoint_id: puts[0]?.checkpoint_id })
      for (const put of puts) await bench.memory.put(put)
      for (const put of writes) await bench.memory.writes(put)
      const resumed = await bench.run('parent', { command: { resume: 'yes' } }, { thread_id })
      expect(valuesOf(resumed.outcome)).toMatchObject({ log: expect.arrayContaining(['edited']) })
    })

    it('refuse an update that does not fit the graph', async () => {
      const common = { graph_id: 'steps', thread_id: crypto.randomUUID(), config: {}, metadata: {} }
      await expect(
        bench.executor.call('state.update', {
          ...common,
          supersteps: [{ updates: [{ values: {}, as_node: 'nobody' }] }],
        }),
      ).rejects.toMatchObject({ code: 'invalid_update', message: expect.stringContaining('nobody') })
    })

    it('fail for a graph that does not exist', async () => {
      const params = { graph_id: 'nothing', thread_id: crypto.randomUUID(), config: {}, subgraphs: false }
      await expect(bench.executor.call('state.get', params)).rejects.toMatchObject({ code: 'graph_not_found' })
    })

    it('tell factories what they are called for', async () => {
      const drawn = (await bench.executor.call('graph.draw', { graph_id: 'made', xray: false })) as {
        nodes: { id: string }[]
      }
      expect(drawn.nodes.map(({ id }) => id)).toContain('read')
    })
  })
})

describe('loading', () => {
  const files = {
    'syntax.ts': 'export const fine: number = 1\nexport const graph = {{\n',
    'throws.ts': '\ninterface Blank {}\n\nexport const graph = (undefined as any).nope\n',
    'plain.mjs': "export const graph = 'a text'\n",
    'old.cjs':
      "const { StateGraph, Annotation, START } = require('@langchain/langgraph')\nconst S = Annotation.Root({ x: Annotation() })\nmodule.exports.graph = new StateGraph(S).addNode('n', () => ({ x: 'cjs' })).addEdge(START, 'n').compile()\n",
    'import.ts': "import { nothing } from './not-there.js'\nexport const graph = nothing\n",
  }
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(GRAPHS, '..', 'scratch-'))
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('says in a sentence with file and line what is wrong, and takes nothing else down', async () => {
    const graphs = [
      ...Object.keys(files).map((name) => ({ graph_id: name, path: join(folder, name), export: 'graph' })),
      { graph_id: 'gone', path: join(folder, 'gone.ts'), export: 'graph' },
      { graph_id: 'unnamed', path: GRAPHS, export: 'nope' },
      { graph_id: 'thing', path: GRAPHS, export: 'notAGraph' },
      { graph_id: 'echo', path: GRAPHS, export: 'echo' },
    ]
    const bench = await startBench('child', graphs)
    try {
      const errors = Object.fromEntries(bench.executor.graphs().map(({ graph_id, error }) => [graph_id, error]))
      expect(errors.echo).toBeUndefined()
      expect(errors['old.cjs']).toBeUndefined()
      expect(errors['syntax.ts']).toMatch(
        /^Graph "syntax\.ts" could not be loaded from .*syntax\.ts:2: Unexpected token/,
      )
      expect(errors['throws.ts']).toMatch(/throws\.ts:4: Cannot read properties of undefined \(reading 'nope'\)\.$/)
      expect(errors['plain.mjs']).toMatch(/plain\.mjs\) exports "graph", which is neither a graph nor a function/)
      expect(errors['import.ts']).toMatch(/not-there/)
      expect(errors.gone).toMatch(/does not exist\.$/)
      expect(errors.unnamed).toMatch(/has no export "nope"; it exports "add|"agent"/)
      expect(errors.thing).toMatch(/neither a graph/)
      expect(valuesOf((await bench.run('old.cjs', { input: { x: '' } })).outcome)).toEqual({ x: 'cjs' })
      expect((await bench.run('echo', { input: human('x') })).outcome.kind).toBe('success')
      await expect(
        bench.executor.call('state.get', { graph_id: 'syntax.ts', thread_id: 't', config: {}, subgraphs: false }),
      ).rejects.toMatchObject({ code: 'graph_load_failed', message: errors['syntax.ts'] })
    } finally {
      await bench.executor.close()
    }
  })

  it("takes TypeScript as it is written: paths, decorators' metadata, JSX, CommonJS, JSON", async () => {
    const project = mkdtempSync(join(GRAPHS, '..', 'scratch-'))
    const write = (name: string, text: string) => {
      mkdirSync(dirname(join(project, name)), { recursive: true })
      writeFileSync(join(project, name), text)
    }
    write('package.json', '{"name":"untyped"}')
    write(
      'tsconfig.base.json',
      JSON.stringify({ compilerOptions: { baseUrl: '.', paths: { '@lib/*': ['src/lib/*'] }, jsx: 'react-jsx' } }),
    )
    write(
      'tsconfig.json',
      `{ "extends": "./tsconfig.base.json", /* a comment */
         "compilerOptions": { "experimentalDecorators": true, "emitDecoratorMetadata": true } }`,
    )
    write('src/lib/words.ts', "export enum Word { Hello = 'hello' }\nexport interface Unused { a: string }\n")
    write('src/lib/index.ts', "export * from './words'\n")
    write(
      'src/metadata.ts',
      `const types: string[] = []
Object.assign(Reflect, { metadata: (key: string, type: { name: string }) => () => void types.push(key + ' ' + type.name) })
function field(_: object, __: string) {}
class Thing { @field text!: string; @field count!: number }
export const seen = () => (void Thing, types.join())
`,
    )
    write('src/view.tsx', 'export const kind = ((<T,>(x: T): T => x)("tsx"))\n')
    write('src/old.cts', "const path = require('node:path')\nexport = { name: path.basename(__filename) as string }\n")
    write('src/data.json', '{"from":"json"}')
    write(
      'src/agent.ts',
      `import { Annotation, START, StateGraph } from '@langchain/langgraph'
import { Word, type Unused } from '@lib/index'
import data from './data.json'
import { seen } from './metadata.js'
import old from './old.cjs'
import { kind } from './view'
const { sep } = require('node:path') as { sep: string }
const late = await Promise.resolve('late')
const text = [Word.Hello, seen(), kind, old.name, data.from, sep, __dirname.endsWith('src'), late].join(' | ')
const S = Annotation.Root({ text: Annotation<string>() })
export const graph = new StateGraph(S).addNode('n', (_: unknown | Unused) => ({ text })).addEdge(START, 'n')
`,
    )
    const bench = await startBench('child', [{ graph_id: 'ts', path: join(project, 'src/agent.ts'), export: 'graph' }])
    try {
      expect(bench.executor.graphs()).toEqual([{ graph_id: 'ts', description: null }])
      expect(valuesOf((await bench.run('ts', { input: { text: '' } })).outcome)).toEqual({
        text: 'hello | design:type String,design:type Number | tsx | old.cts | json | / | true | late',
      })
    } finally {
      await bench.executor.close()
      rmSync(project, { recursive: true, force: true })
    }
  })

  it('reload takes new code for new runs, while old runs end on the code they began with', async () => {
    const file = join(folder, 'changing.mjs')
    const write = (word: string) =>
      writeFileSync(
        file,
        `import { existsSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { Annotation, START, StateGraph } from '@langchain/langgraph'
const S = Annotation.Root({ go: Annotation(), said: Annotation() })
export const graph = new StateGraph(S).addNode('n', async ({ go }) => {
  while (go && !existsSync(go)) await setTimeout(10)
  return { said: '${word}' }
}).addEdge(START, 'n').compile()
`,
      )
    write('old')
    const bench = await startBench('child', [{ graph_id: 'g', path: file, export: 'graph' }])
    try {
      const go = witness()
      const running = bench.run('g', { input: { go } })
      write('new')
      await bench.executor.reload()
      expect(valuesOf((await bench.run('g', { input: { said: '' } })).outcome)).toEqual({ said: 'new' })
      writeFileSync(go, '')
      expect(valuesOf((await running).outcome)).toMatchObject({ said: 'old' })
      await until('the old child to exit', () => bench.observations.some(({ kind }) => kind === 'executor_exited'))
      writeFileSync(file, 'export const graph = {{\n')
      expect((await bench.executor.reload())[0]?.error).toContain('changing.mjs')
      write('mended')
      expect((await bench.executor.reload())[0]).toEqual({ graph_id: 'g', description: null })
      expect(valuesOf((await bench.run('g', { input: { said: '' } })).outcome)).toEqual({ said: 'mended' })
    } finally {
      await bench.executor.close()
    }
  })

  it('takes graphs as values inline', async () => {
    const { Annotation, START, StateGraph } = await import('@langchain/langgraph')
    const S = Annotation.Root({ x: Annotation<string> })
    const value = new StateGraph(S).addNode('n', () => ({ x: 'value' })).addEdge(START, 'n')
    const bench = await startBench('inline', [{ graph_id: 'v', value }])
    expect(valuesOf((await bench.run('v', { input: { x: '' } })).outcome)).toEqual({ x: 'value' })
    await bench.executor.close()
  })
})

describe('a child process', () => {
  it('that ends takes its runs and calls along, says why, and another one serves at once', async () => {
    const bench = await startBench('child', sources('steps', 'wait', 'echo'))
    try {
      const file = witness()
      const waiting = bench.executor.run(bench.job('wait', { input: { witness: file } }), bench.sink())
      await until('the node to wait', () => linesOf(file).includes('waiting'))
      const log = witness()
      const job = bench.job('steps', { input: { witness: log, die_in: 'b' } })
      const outcome = await bench.executor.run(job, bench.sink()).outcome
      const cause = 'called process.exit(7)'
      expect(outcome).toEqual({ kind: 'crashed', cause, blame: 'culprit' })
      expect(await waiting.outcome).toEqual({ kind: 'crashed', cause, blame: 'bystander' })
      expect(bench.observations).toContainEqual(
        expect.objectContaining({
          kind: 'executor_exited',
          cause,
          runs: expect.arrayContaining([job.run_id]),
        }),
      )
      const again = await bench.executor.run({ ...job, attempt: 2, fresh: false }, bench.sink()).outcome
      expect(valuesOf(again)).toMatchObject({ log: ['a', 'b', 'c'] })
      expect(linesOf(log)).toEqual(['a attempt 1', 'b attempt 1', 'b attempt 2', 'c attempt 2'])
    } finally {
      await bench.executor.close()
    }
  })

  it('that is blocked by a graph is ended once the run is aborted', async () => {
    const bench = await startBench('child', sources('spin', 'echo'))
    try {
      const file = witness()
      const run = bench.executor.run(bench.job('spin', { input: { witness: file } }), bench.sink())
      await until('the node to spin', () => linesOf(file).includes('spinning'))
      const call = bench.executor.call('state.get', { graph_id: 'echo', thread_id: 't', config: {}, subgraphs: false })
      call.catch(() => {})
      run.abort('timeout')
      expect(await run.outcome).toEqual({ kind: 'aborted', reason: 'timeout' })
      await expect(call).rejects.toMatchObject({ code: 'executor_unavailable' })
      expect((await bench.run('echo', { input: human('x') })).outcome.kind).toBe('success')
    } finally {
      await bench.executor.close()
    }
  })

  it('is gone after close, and nothing is served any more', async () => {
    const bench = await startBench('child', sources('echo'))
    const { pid } = bench.observations.find(({ kind }) => kind === 'executor_started') as { pid: number }
    expect(process.kill(pid, 0)).toBe(true)
    await bench.executor.close()
    expect(() => process.kill(pid, 0)).toThrow('ESRCH')
    expect((await bench.run('echo', { input: human('x') })).outcome.kind).toBe('crashed')
  })
})
