// Following a run that exists: from any event on, by several at once, filtered, and after its end.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { readEvents, type SeenEvent } from '../support/events.ts'
import { failure } from './nouns.ts'
import { eachRunServer, idsOf, named, type RunServer } from './run-server.ts'

/** A run that has ended, with all it said. */
async function ran(server: RunServer, body: Record<string, unknown> = {}) {
  const threadId = await server.thread()
  const asked = {
    assistant_id: 'nested',
    input: { log: ['in'] },
    stream_mode: ['values', 'updates', 'custom'],
    ...body,
  }
  const all = await (await server.stream(threadId, asked)).rest()
  return { threadId, runId: all[0]?.data.run_id as string, all }
}

const isOf = (name: string) => (event: SeenEvent) => event.event === name

eachRunServer((server) => {
  test('from every event on, the rest comes exactly', async () => {
    const { threadId, runId, all } = await ran(server)
    expect(all).toHaveLength(9)
    for (const [i, { id }] of all.entries()) {
      const rest = await (await server.join(threadId, runId, { from: id as string })).rest()
      // Who has seen the end and asks again is told once more that it is the end, and ids never come twice.
      expect(rest).toEqual(i < all.length - 1 ? all.slice(i + 1) : [{ id: undefined, event: 'end', data: null }])
    }
  })

  test('from -1, everything comes; without an id, only the end of a run that is over', async () => {
    const { threadId, runId, all } = await ran(server)
    expect(await (await server.join(threadId, runId, { from: '-1' })).rest()).toEqual(all)
    expect(named(await (await server.join(threadId, runId)).rest())).toEqual([['end', null]])
  })

  test('an id that is none is refused', async () => {
    const { threadId, runId } = await ran(server)
    for (const from of ['abc', '1.5', '-2', '99999999999999999999']) {
      const answer = await server.request('GET', `/threads/${threadId}/runs/${runId}/stream`, undefined, {
        'last-event-id': from,
      })
      expect(answer.status, from).toBe(422)
      expect(await answer.json()).toMatchObject({
        code: 'validation_failed',
        detail: expect.stringContaining('Last-Event-ID'),
      })
    }
  })

  test('the second run of a thread is followed without the events of the first', async () => {
    const first = await ran(server)
    const { threadId } = first
    const second = await (await server.stream(threadId, { assistant_id: 'nested', input: { log: [] } })).rest()
    const runId = second[0]?.data.run_id
    expect(await (await server.join(threadId, runId, { from: '-1' })).rest()).toEqual(second)
    expect(await (await server.join(threadId, first.runId, { from: '-1' })).rest()).toEqual(first.all)
    const fromTheFirst = await server.join(threadId, runId, { from: first.all.at(-1)?.id as string })
    expect(await fromTheFirst.rest()).toEqual(second)
    const fromWithin = await server.join(threadId, runId, { from: first.all[2]?.id as string })
    expect(await fromWithin.rest()).toEqual(second)
  })

  test('a join while it runs gives only what is new, from -1 what was before too', async () => {
    const threadId = await server.thread()
    const gate = v7()
    const body = { assistant_id: 'steps', input: { hold: { second: gate } }, stream_mode: 'updates' }
    const stream = await server.stream(threadId, body)
    const begun = await stream.upTo(isOf('updates'))
    const runId = begun[0]?.data.run_id
    const [late, early] = await Promise.all([
      server.join(threadId, runId),
      server.join(threadId, runId, { from: '-1' }),
    ])
    await server.gates.reached(gate)
    expect(await early.upTo(isOf('updates'))).toEqual(begun)
    server.gates.open(gate)
    const rest = await stream.rest()
    expect(named(rest)).toEqual([
      ['updates', { second: { log: ['second'] } }],
      ['updates', { third: { log: ['third'] } }],
      ['end', null],
    ])
    expect(await late.rest()).toEqual(rest)
    expect(await early.rest()).toEqual(rest)
  })

  /** Follows a run whose first node waits at the gate: `metadata` comes before the gate is opened. */
  async function isNamedAtOnce(threadId: string, gate: string, body: Record<string, unknown>) {
    const stream = await server.stream(threadId, { assistant_id: 'steps', stream_mode: 'updates', ...body })
    const [metadata] = await stream.upTo(isOf('metadata'))
    expect(metadata?.data).toEqual({ run_id: expect.any(String), attempt: 1 })
    server.gates.open(gate)
    expect((await server.ended(threadId, metadata?.data.run_id)).status).toBe('success')
    await stream.rest()
  }

  test.each(['async', 'sync', 'exit'])(
    'durability %s: who follows a run hears which it is before a node is done',
    async (durability) => {
      const gate = v7()
      await isNamedAtOnce(await server.thread(), gate, { durability, input: { hold: { first: gate } } })
    },
  )

  test('who follows a run that goes on without input hears which it is before a node is done', async () => {
    const [threadId, gate] = [await server.thread(), v7()]
    const input = { log: [], hold: { second: gate } }
    await server.client.runs.wait(threadId, 'steps', { input, interruptBefore: ['second'] })
    await isNamedAtOnce(threadId, gate, { input: null })
  })

  test('many joiners of one run get all of it', async () => {
    const threadId = await server.thread()
    const gate = v7()
    const body = { assistant_id: 'steps', input: { hold: { first: gate } }, stream_mode: ['values', 'updates'] }
    const stream = await server.stream(threadId, body)
    const runId = (await stream.upTo(isOf('metadata')))[0]?.data.run_id
    const joiners = await Promise.all(Array.from({ length: 20 }, () => server.join(threadId, runId, { from: '-1' })))
    server.gates.open(gate)
    await stream.rest()
    const all = await (await server.join(threadId, runId, { from: '-1' })).rest()
    expect(all.length).toBeGreaterThan(7)
    for (const joiner of joiners) expect(await joiner.rest()).toEqual(all)
  })

  test('who leaves and comes back has missed nothing', async () => {
    const threadId = await server.thread()
    const gate = v7()
    const body = { assistant_id: 'steps', input: { hold: { second: gate } }, stream_mode: 'updates' }
    const stream = await server.stream(threadId, body)
    const begun = await stream.upTo(isOf('updates'))
    const runId = begun[0]?.data.run_id
    await stream.leave()
    server.gates.open(gate)
    expect((await server.ended(threadId, runId)).status).toBe('success')
    const rest = await (await server.join(threadId, runId, { from: begun.at(-1)?.id as string })).rest()
    expect(named([...begun, ...rest]).map(([name]) => name)).toEqual([
      'metadata',
      'updates',
      'updates',
      'updates',
      'end',
    ])
    expect(idsOf([...begun, ...rest])).toEqual(idsOf(await (await server.join(threadId, runId, { from: '-1' })).rest()))
  })

  test('a run is followed by the official client', async () => {
    const { threadId, runId, all } = await ran(server)
    const seen: unknown[] = []
    for await (const event of server.client.runs.joinStream(threadId, runId, { lastEventId: '-1' })) seen.push(event)
    expect(seen).toEqual(all)
  })

  test('modes and namespaces are chosen when joining', async () => {
    const { threadId, runId, all } = await ran(server, { stream_subgraphs: true })
    const joined = async (query: string) => (await server.join(threadId, runId, { from: '-1', query })).rest()
    const always = (event: string) => event === 'metadata' || event === 'end'
    const only = (fits: (event: string) => boolean) => all.filter(({ event }) => always(event) || fits(event))
    expect(await joined('?stream_mode=updates')).toEqual(only((event) => event.startsWith('updates')))
    expect(await joined('?stream_mode=updates&stream_mode=custom')).toEqual(
      only((event) => /^(updates|custom)/.test(event)),
    )
    expect(await joined(`?stream_mode=${encodeURIComponent('["values"]')}`)).toEqual(
      only((event) => event.startsWith('values')),
    )
    expect(await joined('?namespace=')).toEqual(only((event) => !event.includes('|')))
    expect(await joined('?namespace=inner')).toEqual(only((event) => event.includes('|inner:')))
    const exact = all.find(({ event }) => event.includes('|'))?.event.split('|')[1] as string
    expect(await joined(`?namespace=${encodeURIComponent(exact)}&stream_mode=values`)).toEqual(
      only((event) => event.startsWith('values|')),
    )
    expect(await joined('?namespace=inner:someone-else')).toEqual(only(() => false))
  })

  test('an error is part of what a joiner gets, whatever the modes', async () => {
    const { threadId, runId, all } = await ran(server, { assistant_id: 'steps', input: { fail: { first: 'error' } } })
    const joined = await server.join(threadId, runId, { from: '-1', query: '?stream_mode=custom' })
    expect(named(await joined.rest())).toEqual([
      ['metadata', { run_id: runId, attempt: 1 }],
      ['error', { error: 'TypeError', message: 'the node broke' }],
      ['end', null],
    ])
    expect(all.at(-2)?.event).toBe('error')
  })

  test('from a checkpoint on, nothing of after it is missing', async () => {
    const threadId = await server.thread()
    const gate = v7()
    const body = { assistant_id: 'steps', input: { hold: { third: gate } }, stream_mode: ['updates', 'checkpoints'] }
    const stream = await server.stream(threadId, body)
    const begun = await stream.upTo(({ event, data }) => event === 'checkpoints' && data.next[0] === 'third')
    const runId = begun[0]?.data.run_id
    const at = begun.at(-1)?.data.checkpoint.checkpoint_id
    const joined = await server.join(threadId, runId, { from: '-1', query: `?checkpoint_id=${at}&stream_mode=updates` })
    server.gates.open(gate)
    await stream.rest()
    const nodes = (await joined.rest()).filter(isOf('updates')).flatMap(({ data }) => Object.keys(data))
    expect(nodes).toContain('third')
    const later = await server.join(threadId, runId, { from: '-1', query: `?checkpoint_id=${v7()}` })
    expect(named(await later.rest())).toEqual([
      ['metadata', { run_id: runId, attempt: 1 }],
      ['end', null],
    ])
  })

  test('a stateless run is followed by its id alone, for a while after its end too', async () => {
    const gate = v7()
    const stream = await server.stream(null, {
      assistant_id: 'steps',
      input: { hold: { first: gate } },
      stream_mode: 'updates',
    })
    const [metadata] = await stream.upTo(isOf('metadata'))
    const runId = metadata?.data.run_id
    const seen: SeenEvent[] = []
    const joined = (async () => {
      for await (const event of server.client.runs.joinStream(null, runId, { lastEventId: '-1' }))
        seen.push(event as SeenEvent)
    })()
    server.gates.open(gate)
    const rest = await stream.rest()
    await joined
    expect(seen.filter(({ event }) => event !== 'metadata')).toEqual(rest)
    const late = readEvents(await server.request('GET', `/runs/${runId}/stream`, undefined, { 'last-event-id': '-1' }))
    expect(await late.rest()).toEqual(seen)
  })

  test('a run that does not exist cannot be followed', async () => {
    const { threadId, runId } = await ran(server)
    const other = await server.thread()
    for (const [thread, run] of [
      [threadId, v7()],
      [other, runId],
    ] as const) {
      const answer = await server.request('GET', `/threads/${thread}/runs/${run}/stream`)
      expect(answer.status).toBe(404)
      expect(await answer.json()).toMatchObject({ code: 'run_not_found' })
      expect(await failure(server.client.runs.join(thread, run))).toMatchObject({ status: 404, code: 'run_not_found' })
    }
  })
})
