import { expect, test } from 'vitest'
import { all, and, join, type Sql, sql } from '../../src/db/sql.ts'

const shown = (query: Sql) => [query.text, query.values]

test('values are bound, never written into the text', () => {
  const name = "x'; drop table runs; --"
  expect(shown(sql`select * from runs where a = ${name} and b = ${2}`)).toEqual([
    'select * from runs where a = $1 and b = $2',
    [name, 2],
  ])
  expect(shown(sql`select 1`)).toEqual(['select 1', []])
})

test('queries nest, and their values stay in order', () => {
  const inner = sql`b = ${2} or c = ${3}`
  const outer = sql`select ${1} where (${inner}) and (${sql`d = ${4} and ${sql`e`}`}) limit ${5}`
  expect(shown(outer)).toEqual(['select $1 where (b = $2 or c = $3) and (d = $4 and e) limit $5', [1, 2, 3, 4, 5]])
})

test('arrays, null and undefined are values', () => {
  expect(shown(sql`${[1, 2]} ${null} ${undefined}`)).toEqual(['$1 $2 $3', [[1, 2], null, undefined]])
})

test('a string is a value even where it looks like a query', () => {
  expect(shown(sql`${'sql`1`'}`)).toEqual(['$1', ['sql`1`']])
})

test('parts are joined by commas or by what is asked for', () => {
  const parts = [sql`a = ${1}`, sql`b`, sql`c = ${3}`]
  expect(shown(join(parts))).toEqual(['a = $1, b, c = $2', [1, 3]])
  expect(shown(join(parts, sql` or ${0} or `))).toEqual(['a = $1 or $2 or b or $3 or c = $4', [1, 0, 0, 3]])
  expect(shown(join([]))).toEqual(['', []])
})

test('conditions that are absent do not count; none at all is true', () => {
  expect(shown(and([sql`a = ${1}`, undefined, sql`b`]))).toEqual(['a = $1 and b', [1]])
  expect(shown(and([undefined]))).toEqual(['true', []])
  expect(shown(sql`where ${all}`)).toEqual(['where true', []])
})
