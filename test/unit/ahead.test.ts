// How many runs are claimed before there is a slot, by what runs took lately.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Claimed } from '../../src/db/queue.ts'
import { createAhead } from '../../src/worker/ahead.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

const run = (run_id: string) => ({ run_id }) as Claimed
const idOf = (claimed: Claimed | undefined) => claimed?.run_id

test('nothing is claimed ahead before a run has shown that runs are short, nor while they are long', () => {
  const ahead = createAhead({ most: 3, late: () => {} })
  expect(ahead.room()).toBe(0)
  ahead.took(20)
  expect(ahead.room()).toBe(3)
  ahead.took(2_000)
  expect(ahead.room()).toBe(0)
  for (let short = 0; short < 30; short++) ahead.took(20)
  expect(ahead.room()).toBe(3)
})

test('runs leave in the order they came, or by their names, and make room', () => {
  const ahead = createAhead({ most: 3, late: () => {} })
  ahead.took(20)
  for (const id of ['a', 'b', 'c']) ahead.put(run(id))
  expect([ahead.room(), ahead.has('b'), ahead.has('d')]).toEqual([0, true, false])
  expect([idOf(ahead.take('b')), idOf(ahead.take('d')), idOf(ahead.take()), ahead.room()]).toEqual([
    'b',
    undefined,
    'a',
    2,
  ])
  expect(ahead.clear().map(idOf)).toEqual(['c'])
  expect([idOf(ahead.take()), ahead.room()]).toEqual([undefined, 3])
})

test('a run that waits too long is given back once, and nothing is claimed ahead until a run was short again', () => {
  const late: string[] = []
  const ahead = createAhead({ most: 3, late: ({ run_id }) => late.push(run_id) })
  ahead.took(20)
  for (const id of ['a', 'b']) ahead.put(run(id))
  ahead.take('a')
  vi.advanceTimersByTime(249)
  expect([late, ahead.room()]).toEqual([[], 2])
  vi.advanceTimersByTime(1)
  expect([late, ahead.has('b'), ahead.room()]).toEqual([['b'], false, 0])
  vi.advanceTimersByTime(10_000)
  expect(late).toEqual(['b'])
  ahead.took(20)
  expect(ahead.room()).toBe(3)
})
