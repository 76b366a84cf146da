// States in the event log: however they are stored, readers get them as they were sent, from any place on.

import fc from 'fast-check'
import { v7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createMemoryBus } from '../../src/bus/memory.ts'
import type { Database } from '../../src/db/db.ts'
import { createDeltas, createReader } from '../../src/db/event-deltas.ts'
import * as events from '../../src/db/events.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import type { StreamEvent } from '../../src/executor/protocol.ts'
import { textOf } from '../../src/pieces.ts'
import { decodeBatch, encodeBatch } from '../../src/runs/log.ts'
import { createJournal, type Held } from '../../src/worker/journal.ts'

let database: Database
beforeAll(async () => {
  database = await openDatabase({ memory: true }, () => {})
  await migrate(database)
})
afterAll(() => database.close())

/** What a run says after each step: its state, which grows, is edited, or is another; and things in between. */
const said = fc.array(
  fc.record({
    change: fc.constantFrom('append', 'append', 'append', 'edit', 'drop', 'replace'),
    text: fc.string({ unit: 'binary', maxLength: 40 }),
    times: fc.integer({ min: 1, max: 300 }),
    name: fc.constantFrom('values', 'values', 'values|inner:1', 'updates'),
    cut: fc.boolean(),
  }),
  { maxLength: 25 },
)
type Said = typeof said extends fc.Arbitrary<infer T> ? T : never

function batchesOf(steps: Said): StreamEvent[][] {
  let list: string[] = Array.from({ length: 150 }, (_, i) => `😀 message ${i} of this thread, long enough to matter`)
  const batches: StreamEvent[][] = [[]]
  for (const { change, text, times, name, cut } of steps) {
    if (change === 'append') list = [...list, text.repeat(times)]
    if (change === 'edit' && list.length > 0) list = list.with(times % list.length, text)
    if (change === 'drop') list = list.slice(times % 20)
    if (change === 'replace') list = [text.repeat(times)]
    batches.at(-1)?.push({ event: name, data: JSON.stringify({ list, last: text }) })
    if (cut) batches.push([])
  }
  return batches.filter((batch) => batch.length > 0)
}

test('any run reads as it was sent, from any batch on, whatever was stored', () => {
  fc.assert(
    fc.property(said, (steps) => {
      const store = createDeltas(encodeBatch)
      let seq = 1
      const rows = batchesOf(steps).map((batch) => {
        const first = seq
        seq += batch.length
        return { first, sent: encodeBatch(batch), ...store(batch, first) }
      })
      rows.forEach((begin, i) => {
        const from = Math.min(...rows.slice(i).map(({ first, base }) => base ?? first))
        const read = createReader()
        const got = rows.filter(({ first }) => first >= from).map(({ first, batch }) => [first, read(textOf(batch))])
        expect(got.slice(-(rows.length - i))).toEqual(rows.slice(i).map(({ first, sent }) => [first, sent]))
        expect(begin.size).toBe(begin.base === null ? null : begin.sent.length)
        // No half of a character: Postgres would refuse it.
        expect(Buffer.from(textOf(begin.batch)).toString()).toBe(begin.batch)
      })
    }),
    { numRuns: 300 },
  )
})

/** A run that sends its whole list after each of `steps` steps, each a batch of its own. */
async function run(steps: number): Promise<{ thread_id: string; sent: string[] }> {
  const held: Held = { run_id: v7(), thread_id: v7(), epoch: 1, seq: 0 }
  const { thread_id, run_id } = held
  await database.rows(
    sql`insert into threads (thread_id, metadata, held_by, epoch) values (${thread_id}, '{}', ${run_id}, 1)`,
  )
  const journal = createJournal({ db: database, bus: createMemoryBus(), observe: () => {}, trusted: () => true })
  const list: string[] = []
  const sent: string[] = []
  for (let step = 0; step < steps; step++) {
    list.push(`step ${step}: `.padEnd(200, 'abc '))
    const data = JSON.stringify({ list, step })
    sent.push(data)
    await journal.append(held, { events: [{ event: 'values', data }] })
  }
  return { thread_id, sent }
}

test('the log of a run whose state grows takes a few times what was added, and not its square', async () => {
  const { thread_id, sent } = await run(400)
  const [row] = await database.rows<{ bytes: number }>(
    sql`select sum(octet_length(batch)) as bytes from events where thread_id = ${thread_id}`,
  )
  const added = sent.at(-1)?.length as number
  expect(sent.join('').length).toBeGreaterThan(190 * added)
  expect(row?.bytes).toBeLessThan(5 * added)
})

test('a state whose beginning was pruned is not told as another one, and keeps its place', async () => {
  const { thread_id, sent } = await run(60)
  const [first] = await database.rows<{ at: number }>(
    sql`select max(base) as at from events where thread_id = ${thread_id}`,
  )
  const base = first?.at as number
  await database.rows(sql`delete from events where thread_id = ${thread_id} and first_seq = ${base}`)
  const { batches } = await events.after(database, thread_id, base)
  const got = batches.flatMap((batch) => [...decodeBatch(batch, base)]).map(({ seq, event }) => `${seq} ${event}`)
  expect(got).toEqual(sent.map((_, i) => `${i + 1} __gone`).slice(base))
})

test('a reader that begins anywhere in the log gets every state whole', async () => {
  const { thread_id, sent } = await run(130)
  for (const after of [0, 1, 40, 77, 128, 129]) {
    const got: string[] = []
    for (let at = after, more = true; more; ) {
      const page = await events.after(database, thread_id, at)
      for (const batch of page.batches) for (const { data, seq } of decodeBatch(batch, at)) got.push(`${seq} ${data}`)
      at = page.batches.at(-1)?.last_seq ?? at
      more = page.more
    }
    expect(got).toEqual(sent.map((data, i) => `${i + 1} ${data}`).slice(after))
  }
})
