// A hundred requests at once on one thread, from two servers: the thread's order is the order of creation, one run runs at
// a time, and every request comes to something.

import { expect, test } from 'vitest'
import { failure } from '../api/nouns.ts'
import { createStage, newThread } from './rows/stage.ts'

const stage = createStage()
const REQUESTS = 100

type Strategy = 'enqueue' | 'interrupt' | 'rollback' | 'reject'

interface Row {
  run_id: string
  status: string
  attempt: number
  word: string
  began: number | null
  ended: number
}

async function text(strategy: Strategy) {
  const servers = [await stage.heddle(), await stage.heddle()] as const
  const threadId = await newThread(servers[0])
  const asked = await Promise.allSettled(
    Array.from({ length: REQUESTS }, (_, i) =>
      (servers[i % 2] ?? servers[0]).client.runs.create(threadId, 'steps', {
        input: { log: [`word ${i}`] },
        multitaskStrategy: strategy,
      }),
    ),
  )
  const accepted = asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value.run_id] : []))
  const refused = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
  const { client } = servers[1]
  // Those that are undone while they are waited for answer that they are gone.
  for (const id of accepted) await client.runs.join(threadId, id).catch(() => {})
  const rows = await stage.query<Row>(
    `select run_id, status, attempt, kwargs #>> '{input,log,0}' as word,
       extract(epoch from started_at)::float8 as began, extract(epoch from ended_at)::float8 as ended
     from runs where thread_id = $1 order by ordinal`,
    [threadId],
  )
  /** What nodes did, run by run, in the order in which they did it. */
  const ran = stage.made.ran.map(({ run_id, node }) => ({ run_id, node }))
  const log = (await client.threads.getState<{ log: string[] }>(threadId)).values.log
  return { threadId, client, accepted, refused, rows, ran, log }
}

const steps = ['first', 'second', 'third']

/** Nodes of two runs are never mixed, and runs begin in the order in which they were made. */
function oneAtATime(ran: { run_id: string }[], rows: Row[]): void {
  const spans = ran.map(({ run_id }) => run_id).filter((id, i, all) => id !== all[i - 1])
  expect(spans.length).toBe(new Set(spans).size)
  const order = rows.map(({ run_id }) => run_id)
  const left = spans.filter((id) => order.includes(id))
  expect(left).toEqual(left.toSorted((a, b) => order.indexOf(a) - order.indexOf(b)))
  const started = rows.filter(({ began }) => began !== null)
  started.forEach(({ began }, i) => {
    if (i > 0) expect(began).toBeGreaterThanOrEqual(started[i - 1]?.ended as number)
  })
}

test('100 runs at once that wait for each other run in the order in which they were made, one at a time, and none is lost', async () => {
  const { accepted, rows, ran, log, refused } = await text('enqueue')
  expect([accepted.length, refused]).toEqual([REQUESTS, []])
  expect(rows.map(({ run_id }) => run_id).toSorted()).toEqual(accepted.toSorted())
  expect(new Set(rows.map(({ status, attempt }) => `${status} ${attempt}`))).toEqual(new Set(['success 1']))
  expect(ran).toEqual(rows.flatMap(({ run_id }) => steps.map((node) => ({ run_id, node }))))
  expect(log).toEqual(rows.flatMap(({ word }) => [word, ...steps]))
  oneAtATime(ran, rows)
})

test('100 runs at once that interrupt each other end once each, and the last made is the one that comes to its end', async () => {
  const { client, threadId, accepted, refused, rows, ran, log } = await text('interrupt')
  expect([accepted.length, refused]).toEqual([REQUESTS, []])
  expect(rows.map(({ run_id }) => run_id).toSorted()).toEqual(accepted.toSorted())
  expect(rows.at(-1)?.status).toBe('success')
  for (const { status } of rows) expect(['success', 'interrupted']).toContain(status)
  for (const { run_id, status } of rows.filter(({ status }) => status === 'interrupted')) {
    const { cancel_reason } = (await client.runs.get(threadId, run_id)) as unknown as { cancel_reason: string }
    expect([status, cancel_reason]).toEqual([
      'interrupted',
      expect.stringMatching(/^superseded by run .{36} \(interrupt\)$/),
    ])
  }
  oneAtATime(ran, rows)
  expect(log.slice(-4)).toEqual([rows.at(-1)?.word, ...steps])
  const words = log.filter((one) => one.startsWith('word'))
  const made = rows.map(({ word }) => word)
  expect(words).toEqual(made.filter((word) => words.includes(word)))
})

test('100 runs at once that undo each other leave those that had ended before, and the last', async () => {
  const { client, threadId, accepted, refused, rows, ran, log } = await text('rollback')
  expect([accepted.length, refused]).toEqual([REQUESTS, []])
  expect(new Set(rows.map(({ status }) => status))).toEqual(new Set(['success']))
  for (const id of accepted.filter((id) => !rows.some(({ run_id }) => run_id === id))) {
    expect(await failure(client.runs.get(threadId, id))).toMatchObject({ status: 404 })
  }
  oneAtATime(ran, rows)
  expect(log).toEqual(rows.flatMap(({ word }) => [word, ...steps]))
})

test('of 100 runs at once that refuse each other, each was made or refused, and those that were made ran alone', async () => {
  const { accepted, refused, rows, ran, log } = await text('reject')
  expect(accepted.length).toBeGreaterThan(0)
  expect(accepted.length + refused.length).toBe(REQUESTS)
  expect(new Set(refused.map(({ status }) => status))).toEqual(new Set([409]))
  expect(rows.map(({ run_id }) => run_id).toSorted()).toEqual(accepted.toSorted())
  expect(new Set(rows.map(({ status, attempt }) => `${status} ${attempt}`))).toEqual(new Set(['success 1']))
  oneAtATime(ran, rows)
  expect(log).toEqual(rows.flatMap(({ word }) => [word, ...steps]))
})
