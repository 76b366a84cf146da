// What goes together, and what came of it.

import { afterEach, expect, test, vi } from 'vitest'
import { type Call, createGather, together } from '../../src/db/gather.ts'
import { ApiError } from '../../src/errors.ts'

type Answer = (error?: unknown) => void

/** A kind of statement that writes down what it was sent with and answers when it is told to: each item doubled. */
function doubling() {
  const sent: number[][] = []
  const answers: Answer[] = []
  const call = (item: number, more: Partial<Call<number, number>> = {}): Call<number, number> => ({
    kind: 'double',
    name: String(item),
    item,
    size: 1,
    send: (items) => {
      sent.push([...items])
      return new Promise((resolve, reject) => {
        answers.push((error) =>
          error === undefined ? resolve(new Map(items.map((n) => [String(n), n * 2]))) : reject(error),
        )
      })
    },
    ...more,
  })
  /** Answers the oldest that has not been answered, and lets what follows from it happen. */
  const answer = async (error?: unknown) => {
    answers.shift()?.(error)
    await turn()
  }
  return { sent, call, answer }
}

const turn = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)))

afterEach(() => vi.useRealTimers())

test('what is asked for in one turn goes together, and each gets its own answer', async () => {
  const { sent, call, answer } = doubling()
  const gather = createGather(2)
  const results = Promise.all([1, 2, 3].map((n) => gather(call(n))))
  await turn()
  expect(sent).toEqual([[1, 2, 3]])
  await answer()
  expect(await results).toEqual([2, 4, 6])
})

test('while as many as may be are under way, the rest gathers, and goes when there is room', async () => {
  const { sent, call, answer } = doubling()
  const gather = createGather(2)
  const results: Promise<unknown>[] = []
  for (const n of [1, 2, 3, 4]) {
    results.push(gather(call(n)))
    await turn()
  }
  expect(sent).toEqual([[1], [2]])
  await answer()
  expect(sent).toEqual([[1], [2], [3, 4]])
  await answer()
  await answer()
  expect(await Promise.all(results)).toEqual([2, 4, 6, 8])
})

test('of two with one name the second goes later, and kinds go apart', async () => {
  const { sent, call, answer } = doubling()
  const gather = createGather(2)
  const results = Promise.all([gather(call(1)), gather(call(1)), gather(call(2)), gather(call(3, { kind: 'other' }))])
  await turn()
  expect(sent).toEqual([[1, 2], [1], [3]])
  for (let i = 0; i < 3; i++) await answer()
  expect(await results).toEqual([2, 2, 4, 6])
})

test('no statement takes more than 64, or more than a million characters; what is larger waits for no other', async () => {
  const { sent, call, answer } = doubling()
  const gather = createGather(9)
  const many = Array.from({ length: 65 }, (_, i) => gather(call(i)))
  const large = [900_000, 2_000_000, 99_999, 1].map((size, i) => gather(call(100 + i, { kind: 'large', size })))
  expect(sent).toEqual([[101]])
  await turn()
  expect(sent.slice(1).map(({ length }) => length)).toEqual([64, 1, 3])
  expect(sent.at(-1)).toEqual([100, 102, 103])
  for (let i = 0; i < 4; i++) await answer()
  expect(await Promise.all([...many, ...large])).toHaveLength(69)
})

test('one that makes the statement fail takes no other with it', async () => {
  const { sent, call, answer } = doubling()
  const gather = createGather(2)
  const results = Promise.allSettled([1, 2, 3].map((n) => gather(call(n))))
  await turn()
  await answer(new Error('no'))
  expect(sent).toEqual([[1, 2, 3], [1], [2], [3]])
  await answer()
  await answer(new Error('never 2'))
  await answer()
  expect(await results).toEqual([
    { status: 'fulfilled', value: 2 },
    { status: 'rejected', reason: new Error('never 2') },
    { status: 'fulfilled', value: 6 },
  ])
})

test('an outage is told to all, and nothing is sent twice', async () => {
  const { sent, call, answer } = doubling()
  const gather = createGather(2)
  const results = Promise.allSettled([1, 2].map((n) => gather(call(n))))
  await turn()
  const outage = new ApiError('database_unavailable')
  await answer(outage)
  const rejected = { status: 'rejected', reason: outage }
  expect([await results, sent]).toEqual([[rejected, rejected], [[1, 2]]])
  const next = gather(call(5))
  await turn()
  await answer()
  expect(await next).toBe(10)
})

test('who waits behind a statement that takes more than a second goes without it', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const { sent, call, answer } = doubling()
  const gather = createGather(1)
  const results: Promise<unknown>[] = [gather(call(1))]
  await turn()
  results.push(...[2, 2, 3].map((n) => gather(call(n))))
  vi.advanceTimersByTime(999)
  await turn()
  expect(sent).toEqual([[1]])
  vi.advanceTimersByTime(1)
  expect(sent).toEqual([[1], [2, 3], [2]])
  await answer()
  results.push(gather(call(4)))
  await turn()
  expect(sent).toHaveLength(3)
  await answer()
  await turn()
  expect(sent).toHaveLength(3)
  await answer()
  expect(sent).toEqual([[1], [2, 3], [2], [4]])
  await answer()
  expect(await Promise.all(results)).toEqual([2, 4, 4, 6, 8])
  expect(vi.getTimerCount()).toBe(0)
})

test('without company, as in a transaction, it is sent at once', async () => {
  const { sent, call, answer } = doubling()
  const result = together({}, call(4))
  expect(sent).toEqual([[4]])
  await answer()
  expect(await result).toBe(8)
})
