// The one parameter of a statement: what was added or found is where it is said to be, and nothing is there twice.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Bodies } from '../../src/db/bodies.ts'
import { sql } from '../../src/db/sql.ts'
import { cut, joined, lengthOf } from '../../src/pieces.ts'

const bodyOf = (bodies: Bodies): Buffer => bodies.with([sql`, x as (select 1)`]).values[0] as Buffer
const at = (body: Buffer, { start, size }: { start: number; size: number }) =>
  body.subarray(start - 1, start - 1 + size)

const memories = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 3 })
const pieces = fc.array(fc.record({ memory: fc.nat(2), from: fc.nat(40), length: fc.nat(40) }), { maxLength: 6 })

test('bytes are found where they are said to be', () => {
  fc.assert(
    fc.property(memories, fc.array(fc.record({ pieces, together: fc.boolean() })), (memory, asked) => {
      const bodies = new Bodies()
      const wanted = asked.map(({ pieces, together }) => {
        const bytes = pieces.map((piece) => {
          const whole = memory[piece.memory % memory.length] as Uint8Array
          return whole.subarray(piece.from, piece.from + piece.length)
        })
        return { bytes, places: together ? [bodies.add(bytes)] : bodies.find(bytes) }
      })
      const body = bodyOf(bodies)
      for (const { bytes, places } of wanted)
        expect(Buffer.concat(places.map((place) => at(body, place))).equals(Buffer.concat(bytes))).toBe(true)
    }),
    { numRuns: 1_000 },
  )
})

test('what is there is not sent again, nor is a part of it', () => {
  const bodies = new Bodies()
  const [one, two] = [Buffer.alloc(1_000, 'a'), Buffer.alloc(1_000, 'b')]
  bodies.add([one, two])
  expect(bodies.find([one.subarray(10), two.subarray(0, 500)])).toEqual([{ start: 11, size: 1_490 }])
  expect(bodies.find([one.subarray(0, 5), Buffer.alloc(1_000, 'c'), two.subarray(995)])).toEqual([
    { start: 1, size: 5 },
    { start: 2_001, size: 1_000 },
    { start: 1_996, size: 5 },
  ])
  expect(bodyOf(bodies).length).toBe(3_000)
})

test('pieces are cut and joined as the bytes in one would be', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 6 })), fc.nat(30), fc.nat(30), (given, one, two) => {
      const [from, to] = [Math.min(one, two), Math.max(one, two)]
      const whole = Buffer.concat(given)
      expect(lengthOf(given)).toBe(whole.length)
      expect(joined(given).equals(whole)).toBe(true)
      expect(joined(cut(given, from, to)).equals(whole.subarray(from, to))).toBe(true)
    }),
  )
})
