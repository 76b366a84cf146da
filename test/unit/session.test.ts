// Connections of the thread protocol over a real embedded database, against a model: whatever is subscribed to, wherever it
// begins and however often it is cut, a subscriber hears the suffix of the log that its filter lets through, once and in order.

import fc from 'fast-check'
import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Bus } from '../../src/bus/bus.ts'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database } from '../../src/db/db.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { all, sql } from '../../src/db/sql.ts'
import type { StreamEvent } from '../../src/executor/protocol.ts'
import { silent } from '../../src/observe.ts'
import { decodeBatch, encodeBatch } from '../../src/runs/log.ts'
import { logSeqOf, type ThreadEvent } from '../../src/runs/protocol.ts'
import { createHangUps, createSession, type Session } from '../../src/runs/session.ts'
import { hearsOf, type Subscription } from '../../src/runs/subscription.ts'
import { createTails, type Tails, threadChannel } from '../../src/runs/tails.ts'
import { createTranslator } from '../../src/runs/translate.ts'
import { ALL_CHANNELS, type ThreadEvent as Seen } from '../support/thread-events.ts'
import { until } from '../support/until.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase({ memory: true }, () => {})
  await migrate(database)
})
afterAll(() => database.close())

interface Batch {
  run_id: string
  first_seq: number
  last_seq: number
  at: number
  batch: string
}

/** A thread whose log is written as the journal writes it, and what a reader of all of it hears. */
async function createThread(bus: Bus) {
  const threadId = v7()
  await database.rows(sql`insert into threads (thread_id, metadata) values (${threadId}, '{}')`)
  const tails = createTails({ db: database, bus, observe: silent }, { pollMs: 20 })
  const translate = createTranslator()
  const heard: ThreadEvent[] = []
  let seq = 0
  let begun = 0
  return {
    threadId,
    tails,
    heard,
    begun: () => begun,
    async log(run_id: string, events: readonly StreamEvent[], say = true) {
      const batch: Batch = {
        run_id,
        first_seq: seq + 1,
        last_seq: seq + events.length,
        at: seq,
        batch: encodeBatch(events),
      }
      seq = batch.last_seq
      if (events[0]?.event === 'metadata') begun = batch.first_seq
      for (const logged of decodeBatch(batch, 0)) heard.push(...translate(logged))
      await database.rows(sql`insert into events (thread_id, first_seq, last_seq, run_id, at_ms, batch)
        values (${threadId}, ${batch.first_seq}, ${batch.last_seq}, ${run_id}, ${batch.at}, ${batch.batch})`)
      const hint = { run_id, first: batch.first_seq, last: batch.last_seq, at: batch.at }
      if (say) bus.publish(threadChannel(threadId), { hint, body: batch.batch })
    },
  }
}

const open = (tails: Tails, threadId: string): Session =>
  createSession({ db: database, tails, hangUps: createHangUps() }, threadId, all)

/** Hears a session from when it was subscribed to. */
async function listen(session: Session, wants: Subscription, since: number) {
  const frames = session.frames()
  const seen: Seen[] = []
  const ended = (async () => {
    for await (const { data } of frames) seen.push(JSON.parse(data) as Seen)
  })()
  await new Promise<void>((begin) => session.subscribe('one', wants, { since, begin }))
  return {
    seen,
    async leave() {
      await frames.return()
      await ended
    },
  }
}

// ------------------------------------------------------------------------------------------------ random logs

const chunk = (id: string, content: unknown, more: object = {}) =>
  JSON.stringify([
    { type: 'AIMessageChunk', id, content, ...more },
    { langgraph_node: 'speak', langgraph_checkpoint_ns: 'speak:1' },
  ])
const interrupts = (id: string) => JSON.stringify({ __interrupt__: [{ id, value: { ask: id } }] })

const line: fc.Arbitrary<StreamEvent> = fc.oneof(
  fc.constantFrom('a', 'b').map((id) => ({ event: 'messages', data: chunk(id, id.repeat(3)) })),
  fc.constantFrom(0, 1).map((index) => ({
    event: 'messages',
    data: chunk('a', '', { tool_call_chunks: [{ index, id: `call${index}`, name: 'add', args: '{}' }] }),
  })),
  fc
    .constantFrom('values', 'values|sub:1', 'updates', 'updates|sub:1|deep:2', '__note', '__checkpoint')
    .map((event) => ({
      event,
      data: '{"node":{"messages":[{"id":"a"}]}}',
    })),
  fc.constantFrom('1', '2', '3').map((id) => ({ event: 'values', data: interrupts(id) })),
  fc.constantFrom('{"name":"mine","payload":1}', '"plain"').map((data) => ({ event: 'custom', data })),
  fc
    .constantFrom('{"id":"1","name":"sub","input":{}}', '{"id":"1","name":"sub","result":{},"interrupts":[]}')
    .map((data) => ({
      event: 'tasks',
      data,
    })),
)
const run = fc.record({
  lines: fc.array(line, { maxLength: 12 }),
  status: fc.constantFrom('success', 'error', 'interrupted'),
  waiting: fc.boolean(),
  /** How the run's events come in batches. */
  cuts: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 }),
  /** Another run that never began ends in the middle of it. */
  between: fc.boolean(),
  /** Said on the bus, or only in the log. */
  say: fc.boolean(),
})
const wanted: fc.Arbitrary<Subscription> = fc.record(
  {
    channels: fc.subarray([...ALL_CHANNELS, 'custom:mine'], { minLength: 1 }),
    namespaces: fc.subarray([[], ['sub'], ['sub:1', 'deep:2']], { minLength: 1 }),
    depth: fc.integer({ min: 0, max: 2 }),
  },
  { requiredKeys: ['channels'] },
)

type Run = typeof run extends fc.Arbitrary<infer R> ? R : never

/** The batches of a run. */
function batchesOf({ lines, status, waiting, cuts, between }: Run): { own: boolean; events: StreamEvent[] }[] {
  const end = { status, ...(waiting && { waiting, interrupts: { task: [{ id: '9', value: 1 }] } }) }
  const events = [
    { event: 'metadata', data: '{"attempt":1}' },
    ...lines,
    ...(status === 'error' ? [{ event: 'error', data: '{"error":"E","message":"m"}' }] : []),
    { event: '__end', data: JSON.stringify(end) },
  ]
  const batches: { own: boolean; events: StreamEvent[] }[] = []
  for (let i = 0, k = 0; i < events.length; k++) {
    const count = cuts[k % cuts.length] as number
    batches.push({ own: true, events: events.slice(i, i + count) })
    i += count
  }
  if (between) batches.splice(1, 0, { own: false, events: [{ event: '__end', data: '{"status":"interrupted"}' }] })
  return batches
}

/** What a subscriber hears of some events that asks once everything up to `begun` is over. */
function expected(events: readonly ThreadEvent[], wants: Subscription, since: number, begun: number) {
  const hears = hearsOf(wants)
  return events.flatMap((event) => {
    const namespace = hears(event)
    const isStale = event.asks === true && logSeqOf(event.seq) < begun
    return namespace === undefined || isStale || event.seq <= since
      ? []
      : [{ seq: event.seq, namespace: [...namespace] }]
  })
}
const shown = (seen: readonly Seen[]) => seen.map(({ seq, params }) => ({ seq, namespace: params.namespace }))

test('any mix of subscriptions, cuts and places to begin gives each subscriber exactly the suffix of the log, filtered', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(run, { minLength: 1, maxLength: 4 }),
      wanted,
      fc.array(fc.nat(), { maxLength: 3 }),
      fc.nat(),
      async (runs, wants, cuts, from) => {
        const bus = createMemoryBus()
        const { threadId, tails, heard, begun, log } = await createThread(bus)
        const batches = runs.flatMap((one) => {
          const [own, other] = [v7(), v7()]
          return batchesOf(one).map((batch) => ({ ...batch, run_id: batch.own ? own : other, say: one.say }))
        })
        const places = [...cuts.map((cut) => cut % (batches.length + 1)), batches.length].toSorted((a, b) => a - b)
        let written = 0
        const write = async () => {
          const { run_id, events, say } = batches[written++] as (typeof batches)[number]
          await log(run_id, events, say)
        }
        while (written < Math.min(places[0] as number, from % (batches.length + 1))) await write()
        let since = heard.at(from % Math.max(1, heard.length))?.seq ?? 0
        const seen: Seen[] = []
        const whole: { seq: number; namespace: string[] }[] = []
        for (const place of places) {
          const there = expected(heard, wants, since, begun())
          const listener = await listen(open(tails, threadId), wants, since)
          const before = heard.length
          while (written < place) await write()
          const mine = [...there, ...expected(heard.slice(before), wants, since, 0)]
          await until(`${mine.length} events`, () => listener.seen.length >= mine.length)
          await listener.leave()
          // A connection that breaks may have sent more than was read.
          const read = place === batches.length ? mine.length : from % (mine.length + 1)
          whole.push(...mine.slice(0, read))
          seen.push(...listener.seen.slice(0, read))
          since = Math.max(since, seen.at(-1)?.seq ?? 0)
        }
        tails.close()
        expect(shown(seen)).toEqual(whole)
      },
    ),
    { numRuns: 60 },
  )
}, 120_000)

test('subscriptions of one connection do not disturb each other: each hears its suffix in order from when it is answered', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(run, { minLength: 1, maxLength: 3 }),
      fc.array(fc.record({ wants: wanted, at: fc.nat(), since: fc.nat() }), { minLength: 1, maxLength: 4 }),
      async (runs, asked) => {
        const bus = createMemoryBus()
        const { threadId, tails, heard, begun, log } = await createThread(bus)
        const session = open(tails, threadId)
        const told = session.frames()
        const frames: Seen[] = []
        const ended = (async () => {
          for await (const { data } of told) frames.push(JSON.parse(data) as Seen)
        })()
        const batches = runs.flatMap((one) => {
          const [own, other] = [v7(), v7()]
          return batchesOf(one).map((batch) => ({ ...batch, run_id: batch.own ? own : other, say: one.say }))
        })
        const subscribed: { wants: Subscription; since: number; from: number; stale: number }[] = []
        for (const [i, { run_id, events, say }] of batches.entries()) {
          for (const [k, { wants, at, since }] of asked.entries()) {
            if (at % batches.length !== i) continue
            const after = heard.at(since % Math.max(1, heard.length))?.seq ?? 0
            await new Promise<void>((resolve) => {
              const begin = () => {
                subscribed.push({ wants, since: after, from: frames.length, stale: begun() })
                resolve()
              }
              session.subscribe(String(k), wants, { since: after, begin })
            })
          }
          await log(run_id, events, say)
        }
        const isWhole = ({ wants, since, from, stale }: (typeof subscribed)[number]) => {
          const hears = hearsOf(wants)
          const ids = new Set<string>()
          // What it no longer has to hear may be told to another subscription of the connection.
          const isStale = ({ seq }: Seen) =>
            logSeqOf(seq) < stale && heard.some((event) => event.asks && event.seq === seq)
          const mine = frames.slice(from).filter((frame) => {
            const namespace = hears({
              ...frame,
              namespace: frame.params.namespace,
              params: '',
              run_id: '',
              channel: channelOf(frame),
            })
            if (namespace === undefined || frame.seq <= since || isStale(frame) || ids.has(frame.event_id)) return false
            ids.add(frame.event_id)
            return true
          })
          return [mine.map(({ seq }) => seq), expected(heard, wants, since, stale).map(({ seq }) => seq)] as const
        }
        await until(
          'every subscription heard all',
          () =>
            subscribed.every((one) => {
              const [mine, whole] = isWhole(one)
              return mine.length >= whole.length
            }),
          2_000,
        ).catch(() => {})
        await told.return()
        await ended
        tails.close()
        for (const one of subscribed) {
          const [mine, whole] = isWhole(one)
          expect(mine).toEqual(whole)
        }
      },
    ),
    { numRuns: 40 },
  )
}, 120_000)

const channelOf = ({ method, params }: Seen): string => {
  if (method === 'custom' && params.data.name !== undefined) return `custom:${params.data.name}`
  return method.startsWith('input.') ? 'input' : method
}
