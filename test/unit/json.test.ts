import fc from 'fast-check'
import { expect, test } from 'vitest'
import { json, parseJson, storable, storableBytes } from '../../src/db/json.ts'
import { textOf } from '../../src/pieces.ts'

/** Strings made of what is hard: NUL, lone and paired surrogates, the escape's own mark, and what follows it. */
const hard = fc.string({
  unit: fc.constantFrom(
    '\0',
    '\ud800',
    '\udfff',
    '\ud83d',
    '\ude00',
    '😀',
    '\ue000',
    'e',
    '0',
    's',
    'd800',
    '\\u0000',
    '\\',
    '"',
    'u',
    'a',
    '\u2028',
  ),
  maxLength: 12,
})
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    hard,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    tie('list'),
    tie('object'),
  ),
  list: fc.array(tie('any'), { maxLength: 4 }),
  object: fc.dictionary(fc.oneof(hard, fc.constantFrom('__proto__', 'constructor')), tie('any'), { maxKeys: 4 }),
})).any

const plain = (given: unknown): unknown => JSON.parse(JSON.stringify(given))

test('every JSON value comes back as it went', () => {
  fc.assert(
    fc.property(value, (given) => {
      const text = json(given) as string
      expect(JSON.stringify(parseJson(text))).toBe(JSON.stringify(plain(given)))
    }),
    { numRuns: 2_000 },
  )
})

test('bytes are stored as the text is that they stand for', () => {
  fc.assert(
    fc.property(value, fc.nat(40), (given, place) => {
      const text = JSON.stringify(given)
      const stored = storable(text)
      expect(textOf(storableBytes(text))).toBe(stored)
      // Pieces end where characters do.
      const middle = Buffer.byteLength(text.slice(0, place))
      const whole = Buffer.from(text)
      const isWhole = (whole[middle] ?? 0) >> 6 !== 2
      const pieces = isWhole ? [whole.subarray(0, middle), whole.subarray(middle)] : [whole]
      expect(textOf(storableBytes(pieces))).toBe(stored)
    }),
    { numRuns: 2_000 },
  )
})

test('what is stored holds nothing that Postgres refuses', () => {
  fc.assert(
    fc.property(value, (given) => {
      const inside = JSON.stringify(JSON.parse(json(given) as string))
      expect(inside).not.toMatch(/(?<!\\)(\\\\)*\\u(0000|[dD][89a-fA-F])/)
    }),
    { numRuns: 2_000 },
  )
})

test('text that was printed with escapes by someone else comes back too', () => {
  for (const text of [
    '"\\ue000e"',
    '"\\uE000"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\uD83D\\uDE00"',
    '"\\uDFFF"',
    '{"\\ue0000":1}',
  ]) {
    expect(parseJson(storable(text)), text).toEqual(JSON.parse(text))
  }
})

test('text that needs no care is left alone, to the letter', () => {
  for (const text of ['{"a":  1.0}', '"plain"', '[]', '"\\u00e9"', '"\\\\"']) expect(storable(text)).toBe(text)
})

test('undefined is no JSON', () => {
  expect(json(undefined)).toBeNull()
  expect(json(() => 1)).toBeNull()
  expect(json(null)).toBe('null')
})
