// Following a thread over a real embedded database while the bus loses what it likes: nothing that was logged is missed,
// nothing comes twice, and the end is noticed.

import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Bus, BusMessage } from '../../src/bus/bus.ts'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database, Db } from '../../src/db/db.ts'
import * as events from '../../src/db/events.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { silent } from '../../src/observe.ts'
import type { LoggedEvent } from '../../src/runs/log.ts'
import { createTails, type Tail, threadChannel } from '../../src/runs/tails.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase({ memory: true }, () => {})
  await migrate(database)
})
afterAll(() => database.close())

/** A thread with a log that is written to as the journal does: first stored, then said. */
async function thread(bus: Bus) {
  const [threadId, runId] = [v7(), v7()]
  await database.rows(sql`insert into threads (thread_id, metadata) values (${threadId}, '{}')`)
  let seq = 0
  return {
    threadId,
    runId,
    async log(count = 1, { say = true } = {}) {
      const first = seq + 1
      seq += count
      const batch = Array.from({ length: count }, (_, i) => `e\t${first + i}`).join('\n')
      await database.rows(
        sql`insert into events (thread_id, first_seq, last_seq, run_id, batch) values (${threadId}, ${first}, ${seq}, ${runId}, ${batch})`,
      )
      if (say) bus.publish(threadChannel(threadId), { hint: { run_id: runId, first, last: seq, at: 7 }, body: batch })
    },
  }
}

/** A bus that hands on only what `passes` lets through; it says that it spans processes, so that readers do not trust it. */
function lossy(passes: (message: BusMessage, n: number) => boolean): Bus {
  const inner = createMemoryBus()
  let n = 0
  return {
    ...inner,
    kind: 'redis',
    publish: (channel, message) => {
      if (passes(message, n++)) inner.publish(channel, message)
    },
  }
}

async function take(tail: Tail, count: number, after = 0): Promise<number[]> {
  const seen: number[] = []
  for await (const item of tail.follow(after, { caughtUp: false })) {
    seen.push((item as LoggedEvent).seq)
    if (seen.length === count) break
  }
  return seen
}
const upTo = (count: number, from = 1) => Array.from({ length: count }, (_, i) => from + i)

test('a follower gets what is in the log and then what happens, from where it asks', async () => {
  const bus = createMemoryBus()
  const { threadId, log } = await thread(bus)
  await log(3)
  const tails = createTails({ db: database, bus, observe: silent })
  const tail = await tails.open(threadId)
  const [all, some, late] = [take(tail, 6), take(tail, 4, 2), take(tail, 2, 4)]
  await log(2)
  await log()
  expect(await all).toEqual(upTo(6))
  expect(await some).toEqual(upTo(4, 3))
  expect(await late).toEqual([5, 6])
  tails.close()
})

test.each([
  ['every message', () => false],
  ['every second message', (_: BusMessage, n: number) => n % 2 === 0],
  ['all but the last', (_: BusMessage, n: number) => n === 9],
  ['none', () => true],
])('when the bus loses %s, nothing is missed and nothing comes twice', async (_, passes) => {
  const bus = lossy(passes)
  const { threadId, log } = await thread(bus)
  const tails = createTails({ db: database, bus, observe: silent }, { pollMs: 10 })
  const tail = await tails.open(threadId)
  const seen = [take(tail, 30), take(tail, 30)]
  for (let i = 0; i < 10; i++) await log(3)
  for (const each of seen) expect(await each).toEqual(upTo(30))
  tails.close()
})

test('messages that come twice, late or without their body change nothing', async () => {
  const bus = createMemoryBus()
  const { threadId, runId, log } = await thread(bus)
  const tails = createTails({ db: database, bus, observe: silent })
  const tail = await tails.open(threadId)
  const seen = take(tail, 7)
  await log(2)
  await log(2, { say: false })
  bus.publish(threadChannel(threadId), { hint: { run_id: runId, first: 1, last: 2, at: 7 }, body: 'e\t1\ne\t2' })
  bus.publish(threadChannel(threadId), { hint: { run_id: runId, first: 3, last: 4, at: 7 } })
  await log(2, { say: false })
  await log(1)
  expect(await seen).toEqual(upTo(7))
  tails.close()
})

test('a log of many pages is read whole', async () => {
  const bus = createMemoryBus()
  const { threadId, log } = await thread(bus)
  for (let i = 0; i < 250; i++) await log(1, { say: false })
  const tails = createTails({ db: database, bus, observe: silent })
  const tail = await tails.open(threadId)
  const seen = take(tail, 251, 0)
  await log(1)
  expect(await seen).toEqual(upTo(251))
  tails.close()
})

test('a follower that falls behind reads on from the log', async () => {
  const bus = createMemoryBus()
  const { threadId, runId, log } = await thread(bus)
  const tails = createTails({ db: database, bus, observe: silent })
  const tail = await tails.open(threadId)
  const follower = tail.follow(0, { caughtUp: true })
  const first = follower.next()
  await log(1)
  expect((await first).value).toMatchObject({ seq: 1 })
  const big = 'x'.repeat(400_000)
  for (let seq = 2; seq <= 6; seq++) {
    const batch = `e\t"${big}"`
    await database.rows(
      sql`insert into events (thread_id, first_seq, last_seq, run_id, batch) values (${threadId}, ${seq}, ${seq}, ${runId}, ${batch})`,
    )
    bus.publish(threadChannel(threadId), { hint: { run_id: runId, first: seq, last: seq, at: 7 }, body: batch })
  }
  const seen: number[] = []
  for (let i = 0; i < 5; i++) seen.push(((await follower.next()).value as LoggedEvent).seq)
  expect(seen).toEqual([2, 3, 4, 5, 6])
  await follower.return()
  tails.close()
})

test('followers at one place share a read, but not one that began before what they look for', async () => {
  const bus = createMemoryBus()
  const { threadId, runId, log } = await thread(bus)
  let reads = 0
  let release: (() => void) | undefined
  const slow: Db = {
    ...database,
    rows: async <T>(query: Parameters<Db['rows']>[0]) => {
      const rows = await database.rows<T>(query)
      if (++reads === 1) await new Promise<void>((resolve) => (release = resolve))
      return rows
    },
  }
  const tails = createTails({ db: slow, bus, observe: silent })
  const tail = await tails.open(threadId)
  const first = take(tail, 1)
  while (release === undefined) await new Promise(setImmediate)
  // The first read has seen an empty log and hangs; then something is logged whose body does not come along.
  await log(1, { say: false })
  bus.publish(threadChannel(threadId), { hint: { run_id: runId, first: 1, last: 1, at: 7 } })
  const second = take(tail, 1)
  expect(await second).toEqual([1])
  release()
  expect(await first).toEqual([1])
  tails.close()
})

test('the end of a run is heard, or found when its message was lost, and its last events come before it', async () => {
  for (const bus of [createMemoryBus(), lossy(() => false)]) {
    const { threadId, runId, log } = await thread(bus)
    const other = v7()
    await database.rows(sql`insert into runs
      (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs, multitask_strategy, worker_id)
      values (${runId}, ${threadId}, ${v7()}, 'g', 'running', '{}', '{}', 'enqueue', ${v7()}),
        (${other}, ${threadId}, ${v7()}, 'g', 'pending', '{}', '{}', 'enqueue', null)`)
    const tails = createTails({ db: database, bus, observe: silent }, { pollMs: 10 })
    const tail = await tails.open(threadId)
    const seen: (number | string)[] = []
    const followed = (async () => {
      for await (const item of tail.follow(0, { caughtUp: true })) {
        seen.push('ended' in item ? item.status : 'seq' in item ? item.seq : 'gone')
        if ('ended' in item) break
      }
    })()
    const ended = tail.ended(runId, { ask: false })
    const never = new AbortController()
    const abandoned = tail.ended(other, { ask: false, signal: never.signal })
    await log(2, { say: false })
    await database.rows(sql`update runs set status = 'success', worker_id = null where run_id = ${runId}`)
    bus.publish(threadChannel(threadId), { hint: { ended: runId, status: 'success' } })
    expect(await ended).toBe('success')
    await followed
    expect(seen).toEqual([1, 2, 'success'])
    never.abort()
    expect(await abandoned).toBeUndefined()
    tails.close()
  }
})

test('one subscription serves all who follow a thread, and ends with the last', async () => {
  const bus = createMemoryBus()
  let subscribed = 0
  const counting: Bus = {
    ...bus,
    subscribe: async (...asked) => {
      const stop = await bus.subscribe(...asked)
      subscribed++
      return () => {
        subscribed--
        stop()
      }
    },
  }
  const { threadId } = await thread(counting)
  const tails = createTails({ db: database, bus: counting, observe: silent })
  const opened = await Promise.all([tails.open(threadId), tails.open(threadId), tails.open(threadId)])
  expect(subscribed).toBe(1)
  opened[0]?.close()
  opened[0]?.close()
  opened[1]?.close()
  expect(subscribed).toBe(1)
  opened[2]?.close()
  expect(subscribed).toBe(0)
  await tails.open(threadId)
  expect(subscribed).toBe(1)
  tails.close()
  expect(subscribed).toBe(0)
})

test('a follower ends when its signal aborts, and when everything closes', async () => {
  const bus = createMemoryBus()
  const { threadId } = await thread(bus)
  const tails = createTails({ db: database, bus, observe: silent })
  const tail = await tails.open(threadId)
  const stop = new AbortController()
  const aborted = tail.follow(0, { caughtUp: true, signal: stop.signal }).next()
  const closed = tail.follow(0, { caughtUp: true }).next()
  stop.abort()
  expect((await aborted).done).toBe(true)
  tails.close()
  expect((await closed).done).toBe(true)
})

/** The database, with its statements counted by what they are about. */
function counted(pattern: RegExp): { db: Db; count: () => number } {
  let count = 0
  const rows: Db['rows'] = (query) => {
    if (pattern.test(query.text)) count++
    return database.rows(query)
  }
  return { db: { ...database, rows }, count: () => count }
}

test('a thousand followers at as many places read a long log in a few statements', async () => {
  const bus = createMemoryBus()
  const { threadId, log } = await thread(bus)
  for (let i = 0; i < 150; i++) await log(10, { say: false })
  const { db, count } = counted(/from events/)
  const tails = createTails({ db, bus, observe: silent }, { pollMs: 60_000 })
  const tail = await tails.open(threadId)
  const seen = await Promise.all(Array.from({ length: 1_000 }, (_, i) => take(tail, 1_500 - i, i)))
  expect(seen.map((one) => [one.length, one[0], one.at(-1)])).toEqual(
    Array.from({ length: 1_000 }, (_, i) => [1_500 - i, i + 1, 1_500]),
  )
  // Two pages hold the log.
  expect(count()).toBeLessThan(10)
  tails.close()
})

test('the ends of runs that a thousand ask for are looked up together, and told to each once', async () => {
  const bus = createMemoryBus()
  const { threadId } = await thread(bus)
  const { db, count } = counted(/left join runs/)
  const tails = createTails({ db, bus, observe: silent }, { pollMs: 60_000 })
  const tail = await tails.open(threadId)
  // It is no longer: what a run is that was rolled back.
  const gone = v7()
  const told = await Promise.all(Array.from({ length: 1_000 }, () => tail.ended(gone, { ask: true })))
  expect(new Set(told)).toEqual(new Set(['removed']))
  expect(count()).toBeLessThan(5)
  tails.close()
})

test('a page of the log is bounded in bytes, whatever its batches hold', async () => {
  const { threadId, runId } = await thread(createMemoryBus())
  const batch = `e\t"${'x'.repeat(1_500_000)}"`
  for (let seq = 1; seq <= 5; seq++)
    await database.rows(
      sql`insert into events (thread_id, first_seq, last_seq, run_id, batch) values (${threadId}, ${seq}, ${seq}, ${runId}, ${batch})`,
    )
  const pages: [number, boolean][] = []
  for (let after = 0; after < 5; ) {
    const { batches, more } = await events.after(database, threadId, after)
    pages.push([batches.length, more])
    after = batches.at(-1)?.last_seq as number
  }
  expect(pages).toEqual([
    [3, true],
    [2, false],
  ])
})

test('who follows a thread until it is gone is told when it is deleted', async () => {
  const bus = createMemoryBus()
  const { threadId, log } = await thread(bus)
  const tails = createTails({ db: database, bus, observe: silent }, { pollMs: 10 })
  const tail = await tails.open(threadId)
  const follower = tail.follow(0, { caughtUp: false, untilGone: true })
  await log(1)
  expect((await follower.next()).value).toMatchObject({ seq: 1 })
  const next = follower.next()
  await database.rows(sql`delete from threads where thread_id = ${threadId}`)
  expect((await next).value).toEqual({ gone: true })
  await follower.return()
  tails.close()
})
