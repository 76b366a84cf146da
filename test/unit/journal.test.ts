// The journal over a real embedded database: what it writes is fenced, whole, in order, and told only when it is durable.

import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BusMessage } from '../../src/bus/bus.ts'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database, Db } from '../../src/db/db.ts'
import * as events from '../../src/db/events.ts'
import { migrate } from '../../src/db/migrate.ts'
import * as newRuns from '../../src/db/new-runs.ts'
import { openDatabase } from '../../src/db/open.ts'
import * as runs from '../../src/db/runs.ts'
import { all, sql } from '../../src/db/sql.ts'
import { ApiError, LeaseLost } from '../../src/errors.ts'
import { createStateReceiver, createStateSender } from '../../src/executor/states.ts'
import type { CheckpointPut } from '../../src/executor/stored.ts'
import type { Observation } from '../../src/observe.ts'
import { threadChannel } from '../../src/runs/tails.ts'
import { createJournal, type Held } from '../../src/worker/journal.ts'
import { newRun } from '../support/new-run.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase({ memory: true }, () => {})
  await migrate(database)
})
afterAll(() => database.close())

const bus = createMemoryBus()
const make = (db: Db = database, trusted = () => true, maxValueBytes = 1024 * 1024) => {
  const seen: Observation[] = []
  return { journal: createJournal({ db, bus, observe: (one) => seen.push(one), trusted, maxValueBytes }), seen }
}
/** A running run on a thread of its own. */
async function held(): Promise<Held> {
  const run = newRun({ worker_id: v7() })
  const made = await newRuns.insertWithThread(database, run)
  return { run_id: run.run_id, thread_id: run.thread_id, epoch: made?.epoch as number, seq: 0 }
}
const put = (of: Held, id: string, channel = 'c'): CheckpointPut => ({
  thread_id: of.thread_id,
  checkpoint_ns: '',
  checkpoint_id: id,
  parent_checkpoint_id: null,
  checkpoint: { channel_versions: { [channel]: '1' } },
  metadata: {},
  values: [{ channel, version: id, blob: { type: 'json', bytes: Buffer.from('1') } }],
})
const checkpoints = async (of: Held) =>
  (
    await database.rows<{ checkpoint_id: string }>(
      sql`select checkpoint_id from checkpoints where thread_id = ${of.thread_id} order by checkpoint_id`,
    )
  ).map(({ checkpoint_id }) => checkpoint_id)
const logged = async (of: Held) =>
  (await events.after(database, of.thread_id, 0)).batches.map(({ first_seq, last_seq, batch }) => [
    first_seq,
    last_seq,
    batch,
  ])
const event = (name: string) => ({ event: name, data: '1' })
const settle = {
  status: 'success',
  error: null,
  values: '{"a":1}',
  interrupts: {},
  settled_status: 'idle',
  doom: false,
} as const
const move = (of: Held) => database.rows(sql`update threads set epoch = epoch + 1 where thread_id = ${of.thread_id}`)

test('what several runs append is written, numbered per thread, and told after it is there', async () => {
  const { journal } = make()
  const [one, two] = [await held(), await held()]
  const heard: BusMessage[] = []
  const stop = await bus.subscribe(threadChannel(one.thread_id), (message) => heard.push(message))
  const before = heard.length
  const first = journal.append(one, { events: [event('a'), event('b')] })
  expect(journal.append(one, { put: put(one, '1') })).toBe(first)
  const other = journal.append(two, { events: [event('x')] })
  expect(heard).toHaveLength(before)
  await Promise.all([first, other])
  await journal.append(one, { events: [event('c')], settle })
  expect(await logged(one)).toEqual([
    [1, 2, 'a\t1\nb\t1'],
    [3, 3, 'c\t1'],
  ])
  expect(await logged(two)).toEqual([[1, 1, 'x\t1']])
  expect(await checkpoints(one)).toEqual(['1'])
  expect(heard).toMatchObject([
    { hint: { run_id: one.run_id, first: 1, last: 2, at: expect.any(Number) }, body: 'a\t1\nb\t1' },
    {
      hint: { run_id: one.run_id, first: 3, last: 3, at: expect.any(Number), ended: one.run_id, status: 'success' },
      body: 'c\t1',
    },
  ])
  const run = await runs.result(database, one.thread_id, one.run_id, all)
  expect(run).toMatchObject({ status: 'success', values: { a: 1 }, last_seq: 3 })
  stop()
})

test('a run that is no longer held writes nothing, nor says anything; the others of its batch do', async () => {
  const { journal } = make()
  const [lost, other] = [await held(), await held()]
  await move(lost)
  const heard: BusMessage[] = []
  const stop = await bus.subscribe(threadChannel(lost.thread_id), (message) => heard.push(message))
  const written = [
    journal.append(lost, { events: [event('a')], put: put(lost, '1'), settle }),
    journal.append(other, { events: [event('b')] }),
  ]
  await expect(written[0]).rejects.toBeInstanceOf(LeaseLost)
  await written[1]
  expect([await logged(lost), await checkpoints(lost)]).toEqual([[], []])
  expect(await runs.result(database, null, lost.run_id, all)).toMatchObject({ status: 'running', values: null })
  expect(await logged(other)).toEqual([[1, 1, 'b\t1']])
  expect(heard).toEqual([])
  stop()
})

test('a run that has ended writes nothing more', async () => {
  const { journal } = make()
  const one = await held()
  await journal.append(one, { settle })
  await expect(journal.append(one, { events: [event('late')], put: put(one, '1') })).rejects.toBeInstanceOf(LeaseLost)
  await expect(journal.append(one, { settle: { ...settle, status: 'error' } })).rejects.toBeInstanceOf(LeaseLost)
  expect([await logged(one), await checkpoints(one)]).toEqual([[], []])
  expect(await runs.result(database, null, one.run_id, all)).toMatchObject({ status: 'success' })
})

test('what one run cannot store does not harm the others, and nothing it appends later is stored but its end', async () => {
  const { journal } = make()
  const [bad, good] = [await held(), await held()]
  const failed = [
    journal.append(bad, { events: [event('a')], put: put(bad, '1', 'no\0such') }),
    journal.append(good, { put: put(good, '1') }),
  ]
  // Appended while the first batch is on its way.
  await new Promise(setImmediate)
  const meanwhile = journal.append(bad, { put: put(bad, '2') })
  meanwhile.catch(() => {})
  await expect(failed[0]).rejects.not.toBeInstanceOf(LeaseLost)
  await failed[1]
  await expect(meanwhile).rejects.toThrow()
  await expect(journal.append(bad, { put: put(bad, '3') })).rejects.toThrow()
  await journal.append(bad, { events: [event('error')], settle: { ...settle, status: 'error' } })
  expect(await checkpoints(bad)).toEqual([])
  expect(await checkpoints(good)).toEqual(['1'])
  expect((await logged(bad)).map(([, , batch]) => batch)).toEqual(['error\t1'])
  expect(await runs.result(database, null, bad.run_id, all)).toMatchObject({ status: 'error' })
})

test('an outage is waited out while the lease lasts, and everything is written once', async () => {
  let failures = 2
  const flaky: Db = {
    ...database,
    rows: (query) => {
      if (failures-- > 0) return Promise.reject(new ApiError('database_unavailable'))
      return database.rows(query)
    },
  }
  const { journal, seen } = make(flaky)
  const one = await held()
  await journal.append(one, { events: [event('a')], put: put(one, '1') })
  expect(await logged(one)).toEqual([[1, 1, 'a\t1']])
  expect(seen.map(({ kind }) => kind)).toEqual(['database_failed', 'database_restored'])
})

test('once the lease may have passed on, nothing is tried any more', async () => {
  let asked = 0
  const counting: Db = {
    ...database,
    rows: (query) => {
      asked++
      return database.rows(query)
    },
  }
  const { journal } = make(counting, () => false)
  const one = await held()
  await expect(journal.append(one, { events: [event('a')] })).rejects.toBeInstanceOf(LeaseLost)
  expect([asked, await logged(one)]).toEqual([0, []])
})

test('idle is when everything appended has been dealt with', async () => {
  const { journal } = make()
  const one = await held()
  let done = false
  void journal.append(one, { events: [event('a')], put: put(one, '1') }).then(() => {
    done = true
  })
  await journal.idle()
  expect(done).toBe(true)
  await journal.idle()
})

test('a statement is bounded in bytes: what does not fit is in the next one, and the order is kept', async () => {
  const commits: number[] = []
  const db: Db = {
    ...database,
    rows: (query) => {
      commits.push(
        query.values.flat().reduce<number>((sum, value) => sum + (typeof value === 'string' ? value.length : 0), 0),
      )
      return database.rows(query)
    },
  }
  const { journal } = make(db)
  const data = JSON.stringify('x'.repeat(6 * 1024 * 1024))
  const all = await Promise.all([held(), held(), held(), held()])
  const first = all.map((of) => journal.append(of, { events: [{ event: 'big', data }] }))
  const second = all.map((of) => journal.append(of, { events: [event('small')] }))
  await Promise.all([...first, ...second])
  expect(commits.length).toBeGreaterThan(1)
  for (const bytes of commits) expect(bytes).toBeLessThan(16 * 1024 * 1024 + 10_000)
  for (const of of all) {
    const names = (await logged(of)).flatMap(([, , batch]) =>
      String(batch)
        .split('\n')
        .map((line) => line.split('\t')[0]),
    )
    expect(names).toEqual(['big', 'small'])
  }
})

test('a value that is too large is not stored, nor is anything after it; the end of its run is', async () => {
  const { journal } = make()
  const of = await held()
  await journal.append(of, { put: put(of, 'a') })
  const large = put(of, 'b', 'heap')
  large.values.push({ channel: 'heap', version: 'b2', blob: { type: 'json', bytes: Buffer.alloc(2 * 1024 * 1024) } })
  await expect(journal.append(of, { put: large })).rejects.toThrow(/channel "heap" takes 2 MiB, more than the 1 MiB/)
  // So is one that is large because of lists that are stored already.
  const list = { checkpoint_ns: '', channel: 'list', version: '1', bytes: 1024 * 1024 }
  const grown = { idx: 0, channel: 'grown', blob: { type: 'json', bytes: Buffer.from('[[],[]]') } }
  const splices = [1, 2].map((i) => ({ ...list, at: 3 * i - 1 }))
  const other = await held()
  const writes = { ...put(other, 'b', 'heap'), task_id: 't', task_path: '', writes: [{ ...grown, splices }] }
  await expect(journal.append(other, { writes })).rejects.toThrow(/channel "grown" takes 2 MiB, more than the 1 MiB/)
  await expect(journal.append(of, { put: put(of, 'c') })).rejects.toThrow(/heap/)
  await journal.append(of, { events: [event('end')], settle })
  expect(await checkpoints(of)).toEqual(['a'])
  expect(await runs.result(database, null, of.run_id, all)).toMatchObject({ status: 'success' })
})

test('a state that a run streamed and leaves is sent to the database once', async () => {
  const of = await held()
  const sent: number[] = []
  const counting: Db = {
    ...database,
    rows: (query) => {
      for (const value of query.values) if (value instanceof Uint8Array) sent.push(value.length)
      return database.rows(query)
    },
  }
  const { journal } = make(counting)
  const sender = createStateSender()
  const receiver = createStateReceiver()
  const states = [['a'], ['a', 'ü'], ['a', 'ü', '\ud800']].map((list) => JSON.stringify([...list, 'x'.repeat(50_000)]))
  const events = states.flatMap((data) => {
    const { body, states: heads = [] } = sender.pack([{ event: 'values', data }])
    return receiver.unpack({ type: 'events', run: 1, seq: 1, events: ['values'], states: heads }, body)
  })
  const { body, state } = sender.packLast(states[1] as string)
  const values = receiver.unpackLast(body, state)
  await journal.append(of, {
    events,
    settle: { status: 'success', error: null, values, interrupts: {}, settled_status: 'idle', doom: false },
  })
  expect(sent).toHaveLength(1)
  expect(sent[0]).toBeLessThan(51_000)
  expect(await logged(of)).toEqual([[1, 3, states.map((data) => `values\t${data}`).join('\n')]])
  const run = await runs.result(database, of.thread_id, of.run_id, all)
  expect(JSON.stringify(run?.values)).toBe(states[1])
})
