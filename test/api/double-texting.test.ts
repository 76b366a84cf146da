// A run asked for while another is on its thread: wait, be refused, stop the other, or undo it.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { until } from '../support/until.ts'
import { failure } from './nouns.ts'
import { eachRunServer, named } from './run-server.ts'

interface Log {
  log: string[]
}

eachRunServer((server) => {
  /** A thread with a run that waits in a node. */
  const busy = async (node = 'second', threadId?: string) => {
    const id = threadId ?? (await server.thread())
    const gate = v7()
    const run = await server.client.runs.create(id, 'steps', { input: { log: ['one'], hold: { [node]: gate } } })
    await server.gates.reached(gate)
    return { threadId: id, run, open: () => server.gates.open(gate) }
  }
  const create = (threadId: string, multitaskStrategy?: 'reject' | 'enqueue' | 'interrupt' | 'rollback', input = {}) =>
    server.client.runs.create(threadId, 'steps', {
      input: { log: ['two'], hold: null, ...input },
      ...(multitaskStrategy && { multitaskStrategy }),
    })
  const log = async (threadId: string) => (await server.client.threads.getState<Log>(threadId)).values.log
  const states = async (threadId: string) =>
    (await server.client.threads.getHistory(threadId, { limit: 100 })).map(({ checkpoint }) => checkpoint.checkpoint_id)

  test('enqueue is the default: the run waits, then runs on what the first left', async () => {
    for (const strategy of ['enqueue', undefined] as const) {
      const { threadId, run, open } = await busy()
      const second = await create(threadId, strategy)
      expect(second).toMatchObject({ status: 'pending', multitask_strategy: 'enqueue' })
      expect((await server.client.runs.get(threadId, run.run_id)).status).toBe('running')
      open()
      expect((await server.ended(threadId, second.run_id)).status).toBe('success')
      expect((await server.client.runs.get(threadId, run.run_id)).status).toBe('success')
      expect(await log(threadId)).toEqual(['one', 'first', 'second', 'third', 'two', 'first', 'second', 'third'])
    }
  })

  test('reject refuses the run and makes nothing', async () => {
    const { threadId, run, open } = await busy()
    const refused = await failure(create(threadId, 'reject'))
    expect(refused).toMatchObject({ status: 409, code: 'thread_busy', detail: expect.stringContaining(run.run_id) })
    expect((await server.client.runs.list(threadId)).map(({ run_id }) => run_id)).toEqual([run.run_id])
    open()
    await server.client.runs.join(threadId, run.run_id)
    expect((await create(threadId, 'reject')).multitask_strategy).toBe('reject')
  })

  test('reject refuses while a run only waits, too', async () => {
    const threadId = await server.thread()
    const later = await server.client.runs.create(threadId, 'steps', { input: {}, afterSeconds: 3600 })
    expect(await failure(create(threadId, 'reject'))).toMatchObject({ status: 409 })
    await server.client.runs.cancel(threadId, later.run_id)
    expect((await create(threadId, 'reject')).run_id).toEqual(expect.any(String))
  })

  test('interrupt stops the run, keeps its checkpoints, and says which run came instead', async () => {
    const { threadId, run } = await busy()
    const second = await create(threadId, 'interrupt')
    expect(second.status).toBe('pending')
    expect((await server.ended(threadId, second.run_id)).status).toBe('success')
    const first = await server.client.runs.get(threadId, run.run_id)
    expect(first).toMatchObject({ status: 'interrupted', cancel_reason: expect.stringContaining(second.run_id) })
    expect(await log(threadId)).toEqual(['one', 'first', 'two', 'first', 'second', 'third'])
    expect(await server.client.threads.get(threadId)).toMatchObject({ status: 'idle', error: null })
  })

  test('interrupt ends runs that wait as well', async () => {
    const { threadId, run } = await busy()
    const waiting = await create(threadId, 'enqueue')
    const third = await create(threadId, 'interrupt')
    await server.client.runs.join(threadId, third.run_id)
    for (const old of [run, waiting]) {
      const { status, cancel_reason } = await server.client.runs.get(threadId, old.run_id)
      expect([status, cancel_reason]).toEqual(['interrupted', expect.stringContaining(third.run_id)])
    }
    expect(server.ran.filter(({ run_id }) => run_id === waiting.run_id)).toEqual([])
    expect(await log(threadId)).toEqual(['one', 'first', 'two', 'first', 'second', 'third'])
  })

  test('rollback undoes the run: it is gone, and state, values and checkpoints are as before', async () => {
    const { client } = server
    const threadId = await server.thread()
    await client.runs.wait(threadId, 'steps', { input: { log: ['zero'] } })
    const before = { states: await states(threadId), state: await client.threads.getState(threadId) }
    const { run } = await busy('third', threadId)
    expect((await states(threadId)).length).toBeGreaterThan(before.states.length)
    const later = await create(threadId, 'rollback', { hold: { first: threadId } })
    await server.gates.reached(threadId)
    expect(await failure(client.runs.get(threadId, run.run_id))).toMatchObject({ status: 404 })
    const now = await states(threadId)
    expect(now.slice(-before.states.length)).toEqual(before.states)
    const foundation = (await client.threads.getHistory(threadId, { limit: 100 })).at(-before.states.length)
    expect(foundation).toEqual(before.state)
    server.gates.open(threadId)
    await client.runs.join(threadId, later.run_id)
    expect(await log(threadId)).toEqual(['zero', 'first', 'second', 'third', 'two', 'first', 'second', 'third'])
  })

  test('rollback of the first run of a thread leaves no trace of it', async () => {
    const { threadId, run } = await busy('second')
    const later = await create(threadId, 'rollback')
    await server.client.runs.join(threadId, later.run_id)
    expect(await log(threadId)).toEqual(['two', 'first', 'second', 'third'])
    expect((await server.client.runs.list(threadId)).map(({ run_id }) => run_id)).toEqual([later.run_id])
    const metadata = (await server.client.threads.getHistory(threadId, { limit: 100 })).map((state) => state.metadata)
    expect(metadata.filter((one) => (one as { run_id?: string }).run_id === run.run_id)).toEqual([])
  })

  test('rollback of a run that waits removes it', async () => {
    const { threadId, open } = await busy()
    const waiting = await create(threadId, 'enqueue')
    const later = await server.client.runs.create(threadId, 'steps', { input: {}, multitaskStrategy: 'rollback' })
    expect(await failure(server.client.runs.get(threadId, waiting.run_id))).toMatchObject({ status: 404 })
    open()
    await server.client.runs.join(threadId, later.run_id)
    expect((await server.client.runs.list(threadId)).map(({ run_id }) => run_id)).toEqual([later.run_id])
  })

  test('rollback of a run that answered an interrupt opens the interrupt again', async () => {
    const { client } = server
    const threadId = await server.thread()
    await client.runs.wait(threadId, 'pause', { input: { log: [] } })
    const before = { thread: await client.threads.get(threadId), state: await client.threads.getState(threadId) }
    expect(before.state.next).toEqual(['left', 'right'])
    const [open] = before.state.tasks.flatMap(({ interrupts }) => interrupts)
    const answer = { resume: { [open?.id as string]: threadId } }
    const run = await client.runs.create(threadId, 'pause', { command: answer })
    await server.gates.reached(threadId)
    await client.runs.cancel(threadId, run.run_id, true, 'rollback')
    expect(await client.threads.getState(threadId)).toEqual(before.state)
    const { updated_at: _, ...thread } = await client.threads.get(threadId)
    expect(thread).toEqual({ ...before.thread, updated_at: undefined })
    const again = (await client.runs.wait(threadId, 'pause')) as unknown as { __interrupt__: unknown[] }
    expect(again.__interrupt__).toHaveLength(2)
  })

  test('the reader of a run that is stopped or undone is told its end', async () => {
    for (const strategy of ['interrupt', 'rollback'] as const) {
      const threadId = await server.thread()
      const gate = v7()
      const body = { assistant_id: 'steps', input: { hold: { second: gate } }, stream_mode: 'updates' }
      const stream = await server.stream(threadId, body)
      await server.gates.reached(gate)
      await create(threadId, strategy)
      const events = await stream.rest()
      expect(named(events).map(([name]) => name)).toEqual(['metadata', 'updates', 'end'])
      expect(Number(events[2]?.id)).toBeGreaterThan(Number(events[1]?.id))
    }
  })

  test('30 runs at once on one thread run one after the other, in the order in which they were made, and none is lost', async () => {
    const { client } = server
    const threadId = await server.thread()
    const runs = await Promise.all(
      Array.from({ length: 30 }, (_, i) => client.runs.create(threadId, 'steps', { input: { log: [`run ${i}`] } })),
    )
    await Promise.all(runs.map(({ run_id }) => client.runs.join(threadId, run_id)))
    const listed = await client.runs.list(threadId, { limit: 100 })
    expect(listed.map(({ status }) => status)).toEqual(Array(30).fill('success'))
    expect(new Set(listed.map(({ run_id }) => run_id))).toEqual(new Set(runs.map(({ run_id }) => run_id)))
    const order = listed.toReversed().map((run) => (run as unknown as { kwargs: { input: Log } }).kwargs.input.log[0])
    const steps = ['first', 'second', 'third']
    expect(await log(threadId)).toEqual(order.flatMap((name) => [name, ...steps]))
    const mine = server.ran.filter(({ run_id }) => runs.some((run) => run.run_id === run_id))
    expect(mine.map(({ run_id }) => run_id)).toEqual(
      listed.toReversed().flatMap(({ run_id }) => [run_id, run_id, run_id]),
    )
  })

  test('of 10 runs at once that interrupt each other, the last made is the one that ends, and each says why not', async () => {
    const { client } = server
    const threadId = await server.thread()
    const runs = await Promise.all(Array.from({ length: 10 }, () => create(threadId, 'interrupt')))
    await Promise.all(runs.map(({ run_id }) => client.runs.join(threadId, run_id)))
    const [last, ...others] = await client.runs.list(threadId, { limit: 20 })
    expect(last?.status).toBe('success')
    expect(others).toHaveLength(9)
    for (const { status, cancel_reason } of others) {
      expect(['success', 'interrupted']).toContain(status)
      if (status === 'interrupted') expect(cancel_reason).toMatch(/^superseded by run [0-9a-f-]{36} \(interrupt\)$/)
    }
    expect((await log(threadId)).slice(-4)).toEqual(['two', 'first', 'second', 'third'])
  })

  test('of 10 runs at once that undo each other, only the last is left', async () => {
    const { client } = server
    const threadId = await server.thread()
    const gate = v7()
    const runs = await Promise.all(
      Array.from({ length: 10 }, () => create(threadId, 'rollback', { hold: { second: gate } })),
    )
    await Promise.all(
      runs
        .map(({ run_id }) => server.ended(threadId, run_id).catch(() => {}))
        .concat(server.gates.reached(gate).then(() => server.gates.open(gate))),
    )
    const left = await client.runs.list(threadId)
    expect(left.map(({ status }) => status)).toEqual(['success'])
    expect(await log(threadId)).toEqual(['two', 'first', 'second', 'third'])
  })

  test('of many runs at once that refuse each other, one runs', async () => {
    const threadId = await server.thread()
    const gate = v7()
    const asked = await Promise.allSettled(
      Array.from({ length: 10 }, () => create(threadId, 'reject', { hold: { first: gate } })),
    )
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    server.gates.open(gate)
    const [run] = await server.client.runs.list(threadId)
    expect((await server.ended(threadId, run?.run_id as string)).status).toBe('success')
    expect(await log(threadId)).toEqual(['two', 'first', 'second', 'third'])
  })
})

eachRunServer(
  (server) => {
    test('a run that another server is just making counts, though this server looked before it was there', async () => {
      const threadId = await server.thread()
      await server.client.runs.wait(threadId, 'steps', { input: { log: [], hold: null } })
      const db = await openDatabase(server.stack.database(), () => {})
      try {
        const waiting = sql`select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
        const asked = await db.tx(async (tx) => {
          await tx.rows(sql`update threads set updated_at = clock_timestamp() where thread_id = ${threadId}`)
          await tx.rows(sql`insert into runs (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs,
              multitask_strategy, available_at, temporary, attempt)
            select ${v7()}::uuid, thread_id, assistant_id, graph_id, 'pending', metadata, kwargs, multitask_strategy,
              clock_timestamp() + interval '1 hour', false, 0 from runs where thread_id = ${threadId}`)
          const answer = failure(server.client.runs.create(threadId, 'steps', { multitaskStrategy: 'reject' }))
          await until('it waits for the thread', async () => (await db.rows(waiting)).length > 0)
          return { answer }
        })
        expect(await asked.answer).toMatchObject({ status: 409 })
      } finally {
        await db.close()
      }
    })
  },
  { only: ['postgres+redis', 'postgres'] },
)
