// What a person sees while something takes its time.

import { expect, test } from 'vitest'
import { createProgress } from '../../src/cli/progress.ts'

function shown(isTTY: boolean) {
  let clock = 0
  const written: string[] = []
  const stream = { isTTY, write: (text: string) => written.push(text) }
  const progress = createProgress({ total: 1_000, of: 'items', stream, now: () => clock })
  return {
    written,
    progress,
    after: (ms: number, done: number) => {
      clock += ms
      progress.at(done)
    },
  }
}

test('a terminal gets one line with a bar, how fast it goes, and what is left', () => {
  const { written, progress, after } = shown(true)
  after(1_000, 100)
  after(10, 110)
  after(3_990, 500)
  after(5_000, 1_200)
  progress.end()
  expect(written).toEqual([
    `\r\x1b[K[###${'.'.repeat(27)}] 100 of 1000 items, 10 %, 100/s, 9 s left`,
    `\r\x1b[K[${'#'.repeat(15)}${'.'.repeat(15)}] 500 of 1000 items, 50 %, 100/s, 5 s left`,
    `\r\x1b[K[${'#'.repeat(30)}] 1000 of 1000 items, 100 %, 100/s`,
    '\n',
  ])
})

test('a file gets a line now and then, and the last one', () => {
  const { written, progress, after } = shown(false)
  for (let done = 0; done <= 1_000; done += 100) after(1_000, done)
  progress.end()
  expect(written.map((line) => line.split(',')[0])).toEqual([
    '0 of 1000 items',
    '500 of 1000 items',
    '1000 of 1000 items',
  ])
})
