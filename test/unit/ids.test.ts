import { validate, version } from 'uuid'
import { afterEach, expect, test, vi } from 'vitest'
import { newId, randomBytes } from '../../src/ids.ts'

afterEach(() => void vi.useRealTimers())

test('ids are UUIDs of version 7, none twice, in the order of their making', () => {
  const ids = Array.from({ length: 5_000 }, newId)
  expect(ids.filter((id) => !validate(id) || version(id) !== 7)).toEqual([])
  expect(new Set(ids).size).toBe(5_000)
  expect(ids).toEqual(ids.toSorted())
})

test('an id holds the time of its making', () => {
  vi.useFakeTimers({ now: Date.now() + 60_000 })
  expect(Number.parseInt(newId().replaceAll('-', '').slice(0, 12), 16)).toBe(Date.now())
})

test('ids go on in order where the clock is set back', () => {
  vi.useFakeTimers({ now: Date.now() + 120_000 })
  const before = newId()
  vi.setSystemTime(Date.now() - 3_600_000)
  const after = [newId(), newId()]
  expect([before, ...after]).toEqual([before, ...after].toSorted())
})

test('random bytes are as many as asked for, never those of before, and stay what they are', () => {
  const all = Array.from({ length: 2_000 }, (_, i) => randomBytes(6 + (i % 11)))
  const kept = all.map((bytes) => Buffer.from(bytes).toString('hex'))
  expect(all.map(({ length }) => length)).toEqual(all.map((_, i) => 6 + (i % 11)))
  randomBytes(4_096)
  expect(all.map((bytes) => Buffer.from(bytes).toString('hex'))).toEqual(kept)
  expect(new Set(kept).size).toBe(2_000)
})
