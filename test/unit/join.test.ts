import { expect, test } from 'vitest'
import { textOf } from '../../src/pieces.ts'
import { resultText } from '../../src/runs/join.ts'

const ended = (values: string, interrupts: Record<string, unknown[]> = {}) =>
  textOf(resultText({ status: 'ended', values: [Buffer.from(values)], interrupts }))

test('a result is the values as they were printed, to the letter', () => {
  for (const values of ['{"a":1.0,"b" :2}', '{}', 'null', '[1]', '"x"', '3']) expect(ended(values)).toBe(values)
})

test('open interrupts stand in the values, those of all tasks in order', () => {
  const open = { t1: [{ id: 'a' }, { id: 'b' }], t2: [{ id: 'c' }] }
  expect(JSON.parse(ended('{"a":1}', open))).toEqual({ a: 1, __interrupt__: [{ id: 'a' }, { id: 'b' }, { id: 'c' }] })
  expect(JSON.parse(ended('{}', open))).toEqual({ __interrupt__: [{ id: 'a' }, { id: 'b' }, { id: 'c' }] })
  expect(ended('{"a":1}', { t1: [] })).toBe('{"a":1}')
})

test('before there are values, open interrupts are all there is', () => {
  expect(ended('null', { t: [{ id: 'a' }] })).toBe('{"__interrupt__":[{"id":"a"}]}')
})

test('values that are no object have no room for interrupts', () => {
  for (const values of ['[1]', '"x"']) expect(ended(values, { t: [{ id: 'a' }] })).toBe(values)
})

test('an error is what is answered with', () => {
  expect(resultText({ status: 'error', error: { error: 'E', message: 'm "q"' } })).toBe(
    '{"__error__":{"error":"E","message":"m \\"q\\""}}',
  )
})
