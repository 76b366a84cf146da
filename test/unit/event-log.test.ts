import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeBatch, encodeBatch, lastBatch } from '../../src/runs/log.ts'

const name = fc.string({ minLength: 1, unit: fc.constantFrom('a', 'é', '|', ':', ' ', '/', '😀', '=') })
const data = fc.json({ maxDepth: 4 })
const events = fc.array(fc.record({ event: name, data }), { minLength: 1, maxLength: 20 })
const decode = (batch: string, first_seq: number, after: number) => [
  ...decodeBatch({ first_seq, run_id: 'r', at: 7, batch }, after),
]

test('what is encoded comes out again, numbered, from any place on', () => {
  fc.assert(
    fc.property(
      events,
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.integer({ min: -2, max: 25 }),
      (given, first, skip) => {
        const batch = encodeBatch(given)
        const all = given.map((event, i) => ({ ...event, seq: first + i, run_id: 'r', at: 7 }))
        expect(decode(batch, first, 0)).toEqual(all)
        expect(decode(batch, first, first + skip)).toEqual(all.filter(({ seq }) => seq > first + skip))
      },
    ),
  )
})

test('a name cannot break the lines apart', () => {
  const given = [
    { event: 'values|a\tb\nc:1', data: '1' },
    { event: 'x\0y\r', data: '"\\n"' },
  ]
  expect(decode(encodeBatch(given), 1, 0)).toEqual([
    { event: 'values|a b c:1', data: '1', seq: 1, run_id: 'r', at: 7 },
    { event: 'x y ', data: '"\\n"', seq: 2, run_id: 'r', at: 7 },
  ])
})

test('the last batch of a run is its error, where it has one, and its end', () => {
  const error = { error: 'E', message: 'm' }
  const { batch, count } = lastBatch('error', error)
  expect(decode(batch, 5, 0)).toEqual([
    { event: 'error', data: JSON.stringify(error), seq: 5, run_id: 'r', at: 7 },
    { event: '__end', data: '{"status":"error"}', seq: 6, run_id: 'r', at: 7 },
  ])
  expect(count).toBe(2)
  expect(lastBatch('interrupted', null)).toEqual({ batch: '__end\t{"status":"interrupted"}', count: 1 })
})
