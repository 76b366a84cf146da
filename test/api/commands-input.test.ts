// Answers to interrupts and messages put into a thread, on the raw wire: one run for each answer, whoever sends it, however
// early, from whichever process.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { type Answered, eachCommandServer, newThread } from './command-server.ts'

eachCommandServer((on) => {
  const log = async (threadId: string) => (await on.client.threads.getState<{ log: string[] }>(threadId)).values.log
  const errorOf = ({ status, body }: Answered) => [status, body.error, body.message]
  const refused = async (threadId: string, params: object) => errorOf(await on.send(threadId, 'input.respond', params))
  const noInterrupt = (message: unknown = expect.any(String)) => [200, 'no_such_interrupt', message]
  /** A thread on which the graph has asked, with the ids of its questions. */
  const asked = async (assistant: string, input: object = { log: [] }) => {
    const threadId = newThread()
    await on.run(threadId, assistant, input)
    return { threadId, ids: await on.open(threadId) }
  }
  const one = (interrupt_id: string | undefined, response: unknown) => ({ namespace: [], interrupt_id, response })
  const respond = async (threadId: string, params: object) => {
    const { run_id } = await on.does(threadId, 'input.respond', params)
    return on.ended(threadId, run_id)
  }

  test('one answer is taken by its id, with config and metadata for the run that takes it', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    const run = await respond(threadId, {
      ...one(ids[0], { yes: true }),
      config: { tags: ['answering'] },
      metadata: { from: 'me' },
    })
    expect(run).toMatchObject({
      status: 'success',
      metadata: { from: 'me' },
      kwargs: {
        protocol: 'v2',
        command: { resume: { [ids[0] as string]: { yes: true } } },
        config: { tags: ['answering'] },
      },
    })
    expect(run.kwargs.strict_resume).toBeUndefined()
    expect(await log(threadId)).toEqual(['asked cake: {"yes":true}', 'acted'])
    expect(await on.open(threadId)).toEqual([])
  })

  test('an answer of null is an answer', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    await respond(threadId, one(ids[0], null))
    expect(await log(threadId)).toEqual(['asked cake: null', 'acted'])
  })

  test('a question in a subgraph is answered like one at the root', async () => {
    const { threadId, ids } = await asked('family')
    await respond(threadId, { ...one(ids[0], 'sure'), namespace: ['child'] })
    expect(await log(threadId)).toContain('answer: "sure"')
    expect((await on.client.threads.get(threadId)).status).toBe('idle')
  })

  test('many are answered in one run', async () => {
    const { threadId, ids } = await asked('two')
    await respond(threadId, { responses: ids.map((id, i) => one(id, i)) })
    expect(await log(threadId)).toEqual(['left: 0', 'right: 1', 'after'])
    expect(await on.client.runs.list(threadId)).toHaveLength(2)
  })

  test('some of many are answered one after the other, without waiting for each run', async () => {
    const { threadId, ids } = await asked('two')
    const gate = v7()
    const first = await on.does(threadId, 'input.respond', one(ids[0], `gate ${gate}`))
    await on.gates.reached(gate)
    const second = await on.does(threadId, 'input.respond', one(ids[1], 'no'), on.other)
    expect((await on.client.runs.get(threadId, second.run_id)).status).toBe('pending')
    on.gates.open(gate)
    await on.ended(threadId, first.run_id)
    const run = await on.ended(threadId, second.run_id)
    expect(run).toMatchObject({ status: 'success', kwargs: { strict_resume: true } })
    expect(await log(threadId)).toEqual([`left: "gate ${gate}"`, 'right: "no"', 'after'])
  })

  test('update and goto go with the answer', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    await respond(threadId, { ...one(ids[0], 'yes'), update: { log: ['noted'] }, goto: 'act' })
    const after = await log(threadId)
    expect(after[0]).toBe('noted')
    expect(after.filter((entry) => entry === 'acted')).toHaveLength(2)
    expect(after).toContain('asked cake: "yes"')
  })

  test('what is not open cannot be answered: unknown, answered before, of another thread', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    const other = await asked('approve', { topic: 'tea' })
    expect(await refused(threadId, one('0'.repeat(32), 1))).toEqual(
      noInterrupt(`The interrupt ${'0'.repeat(32)} is not open: reload the state to see what is.`),
    )
    expect(await refused(threadId, one(other.ids[0], 1))).toEqual(noInterrupt())
    expect(await refused(threadId, { responses: [one(ids[0], 1), one(other.ids[0], 1)] })).toEqual(noInterrupt())
    expect(await on.client.runs.list(threadId)).toHaveLength(1)
    await respond(threadId, one(ids[0], 1))
    expect(await refused(threadId, { ...one(ids[0], 1), strict_resume: true })).toEqual(noInterrupt())
    expect(await on.client.runs.list(threadId)).toHaveLength(2)
    for (const nothing of [newThread(), (await on.client.threads.create()).thread_id])
      expect(await refused(nothing, one(ids[0], 1))).toEqual([
        200,
        'no_such_run',
        `Nothing has run on the thread ${nothing}: begin with run.start.`,
      ])
  })

  test('what is no answer is refused, saying what is missing', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    const invalid = async (params: object, message: string) =>
      expect(await refused(threadId, params)).toEqual([200, 'invalid_argument', message])
    await invalid({}, 'params: must have either interrupt_id and response, or responses')
    await invalid(
      { ...one(ids[0], 1), responses: [one(ids[0], 1)] },
      'params: must have either interrupt_id and response, or responses',
    )
    await invalid({ interrupt_id: ids[0] }, 'params.response: is required')
    await invalid({ responses: [{ interrupt_id: ids[0] }] }, 'params.responses[0].response: is required')
    await invalid({ responses: [] }, 'params.responses: must have at least 1 item')
    await invalid({ responses: [one(ids[0], 1), one(ids[0], 2)] }, 'params.responses: must name each interrupt once')
    await invalid(
      { ...one(ids[0], 1), config: { configurable: { checkpoint_id: v7() } } },
      'params.config.configurable.checkpoint_id: cannot be given with an answer',
    )
    const [, error, message] = await refused(threadId, { ...one(ids[0], 1), goto: 7 })
    expect([error, message]).toEqual(['invalid_argument', expect.stringContaining('params.goto')])
    expect(await on.open(threadId)).toEqual(ids)
  })

  test('the same answer from two processes at once makes one run', async () => {
    for (let round = 0; round < 10; round++) {
      const { threadId, ids } = await asked('approve', { topic: 'cake' })
      const answers = await Promise.all(
        [on.server, on.other, on.server, on.other].map((to, i) =>
          on.send(threadId, 'input.respond', one(ids[0], i), to),
        ),
      )
      const taken = answers.filter(({ body }) => body.type === 'success')
      expect(taken).toHaveLength(1)
      for (const answer of answers.filter((each) => !taken.includes(each)))
        expect(errorOf(answer)).toEqual(noInterrupt())
      await on.ended(threadId, taken[0]?.body.result.run_id)
      expect(await on.client.runs.list(threadId)).toHaveLength(2)
      expect(await log(threadId)).toEqual([`asked cake: ${answers.indexOf(taken[0] as Answered)}`, 'acted'])
    }
  })

  test('run.start and input.respond at once: one is the answer, the other never takes it away', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    const [started, answered] = await Promise.all([
      on.send(threadId, 'run.start', { assistant_id: 'approve', input: 'by start' }),
      on.send(threadId, 'input.respond', one(ids[0], 'by respond'), on.other),
    ])
    const first = answered.body.type === 'success' ? answered : started
    await on.ended(threadId, first?.body.result.run_id)
    expect(await log(threadId)).toContain(`asked cake: "${first === answered ? 'by respond' : 'by start'}"`)
    if (first === started) expect(errorOf(answered)).toEqual(noInterrupt())
  })

  test('an answer may come while the run that asked is still at work: it is taken when that has ended', async () => {
    const [threadId, gate] = [newThread(), v7()]
    const { run_id } = await on.does(threadId, 'run.start', { assistant_id: 'busy', input: { log: [], hold: gate } })
    await on.gates.reached(gate)
    const id = await until('the question is stored', async () => {
      const state = await on.client.threads.getState(threadId)
      return state.tasks.flatMap(({ interrupts }) => interrupts.map((each) => each.id as string))[0]
    })
    expect(await on.open(threadId)).toEqual([])
    const { run_id: taking } = await on.does(threadId, 'input.respond', one(id, 'early'), on.other)
    expect(await refused(threadId, one(id, 'twice'))).toEqual(
      noInterrupt(`The interrupt ${id} is not open: run ${taking} has the answer.`),
    )
    expect((await on.client.runs.get(threadId, taking)).status).toBe('pending')
    on.gates.open(gate)
    await on.ended(threadId, run_id)
    expect((await on.ended(threadId, taking)).status).toBe('success')
    expect((await log(threadId)).toSorted()).toEqual(['heard: "early"', 'worked'])
  })

  test('an answer that comes in the moment between the question and the end of its run is taken', async () => {
    for (let round = 0; round < 5; round++) {
      const threadId = newThread()
      const stream = await on.server.request('POST', `/threads/${threadId}/runs/stream`, {
        assistant_id: 'approve',
        input: { topic: 'cake' },
        stream_mode: ['updates'],
        if_not_exists: 'create',
      })
      const reader = (stream.body as ReadableStream<Uint8Array<ArrayBuffer>>)
        .pipeThrough(new TextDecoderStream())
        .getReader()
      let text = ''
      const id = await until('the question is streamed', async () => {
        text += (await reader.read()).value ?? ''
        return /"__interrupt__":\[\{"id":"([0-9a-f]+)"/.exec(text)?.[1]
      })
      const run = await respond(threadId, one(id, round))
      expect(run.status).toBe('success')
      expect(await log(threadId)).toEqual([`asked cake: ${round}`, 'acted'])
      await reader.cancel()
    }
  })

  test('while a run that asks nothing goes before, there is nothing to answer', async () => {
    const [threadId, gate, id] = [newThread(), v7(), '0'.repeat(32)]
    const messages = [{ role: 'user', content: `hold ${gate}` }]
    const first = await on.does(threadId, 'run.start', { assistant_id: 'chat', input: { messages } })
    expect(await refused(threadId, one(id, 1))).toEqual(
      noInterrupt(`The interrupt ${id} is not open: run ${first.run_id} still runs and has not asked this.`),
    )
    const second = await on.does(threadId, 'run.start', { assistant_id: 'chat', input: { messages } })
    expect(await refused(threadId, one(id, 1))).toEqual(
      noInterrupt(`The interrupt ${id} is not open: run ${second.run_id} goes before.`),
    )
    on.gates.open(gate)
    await on.ended(threadId, second.run_id)
  }, 30_000)

  test('a run that waits for a later time does not keep an answer', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    const later = await on.client.runs.create(threadId, 'approve', { input: { topic: 'tea' }, afterSeconds: 600 })
    await respond(threadId, one(ids[0], 'now'))
    expect(await log(threadId)).toEqual(['asked cake: "now"', 'acted'])
    await on.client.runs.cancel(threadId, later.run_id)
  })

  test('an answer for later is an answer: no other is taken meanwhile', async () => {
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    const { run_id } = await on.does(threadId, 'input.respond', { ...one(ids[0], 'later'), after_seconds: 600 })
    expect(await refused(threadId, one(ids[0], 'now'))).toEqual(
      noInterrupt(`The interrupt ${ids[0]} is not open: run ${run_id} has the answer.`),
    )
    const started = await on.does(threadId, 'run.start', { assistant_id: 'approve', input: null, after_seconds: 600 })
    for (const id of [run_id, started.run_id]) await on.client.runs.cancel(threadId, id)
    await respond(threadId, one(ids[0], 'now'))
    expect(await log(threadId)).toEqual(['asked cake: "now"', 'acted'])
  })

  test('an answer behind a run that is rolled back fails as one that nobody asked for, and changes nothing', async () => {
    const { threadId, ids } = await asked('two')
    const gate = v7()
    const first = await on.does(threadId, 'input.respond', one(ids[0], `gate ${gate}`))
    await on.gates.reached(gate)
    const second = await on.does(threadId, 'input.respond', one(ids[1], 'no'))
    await on.client.threads.getState(threadId)
    await on.client.runs.cancel(threadId, first.run_id, true, 'rollback')
    expect((await on.ended(threadId, second.run_id)).status).toBe('success')
    expect(await on.open(threadId)).toEqual([ids[0]])
  })

  // ---------------------------------------------------------------------------------------------- input.inject

  const say = (content: string, role = 'user') => ({ namespace: [], message: { role, content, name: 'ann' } })
  const messages = async (threadId: string) =>
    (await on.client.threads.getState<{ messages: { type: string; content: string; name?: string }[] }>(threadId))
      .values.messages

  test('a message that is injected while a run is at work is seen by the next, in order', async () => {
    const [threadId, gate] = [newThread(), v7()]
    await on.does(threadId, 'run.start', {
      assistant_id: 'chat',
      input: { messages: [{ role: 'user', content: `hold ${gate}` }] },
    })
    await on.gates.reached(gate)
    const first = await on.does(threadId, 'input.inject', say('one'), on.other)
    const second = await on.does(threadId, 'input.inject', say('two', 'system'))
    expect((await on.client.runs.get(threadId, first.run_id)).status).toBe('pending')
    on.gates.open(gate)
    expect(await on.ended(threadId, second.run_id)).toMatchObject({ status: 'success', kwargs: { protocol: 'v2' } })
    expect((await messages(threadId)).map(({ type, content, name }) => [type, content, name])).toEqual([
      ['human', `hold ${gate}`, undefined],
      ['ai', 'seen 1', undefined],
      ['human', 'one', 'ann'],
      ['ai', 'seen 3', undefined],
      ['system', 'two', 'ann'],
      ['ai', 'seen 5', undefined],
    ])
  })

  test('a message for a thread at rest is answered at once', async () => {
    const threadId = newThread()
    await on.run(threadId, 'chat', { messages: [] })
    const { run_id } = await on.does(threadId, 'input.inject', say('hello'))
    await on.ended(threadId, run_id)
    expect((await messages(threadId)).map(({ content }) => content)).toEqual(['seen 0', 'hello', 'seen 2'])
  })

  test('a message is refused where it would take a question away, where nothing has run, and inside of a subgraph', async () => {
    const inject = async (threadId: string, params: object) => errorOf(await on.send(threadId, 'input.inject', params))
    const { threadId, ids } = await asked('approve', { topic: 'cake' })
    expect(await inject(threadId, say('hi'))).toEqual([
      200,
      'invalid_argument',
      'The thread waits for an answer, which a message would take away: use input.respond, whose `update` can carry one.',
    ])
    expect(await on.open(threadId)).toEqual(ids)
    expect((await inject(newThread(), say('hi')))[1]).toBe('no_such_run')
    expect(await inject(threadId, { ...say('hi'), namespace: ['child'] })).toEqual([
      200,
      'not_supported',
      'params.namespace: must be []: a message can be put into the root only',
    ])
    expect(await inject(threadId, { namespace: [], message: { role: 'ai', content: 'x' } })).toEqual([
      200,
      'invalid_argument',
      'params.message.role: must be one of: user, system',
    ])
  })
})
