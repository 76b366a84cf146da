// The table of faults: what it says is shown must be shown, by tests that exist.

import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = new URL('../../', import.meta.url)
const read = (file: string) => readFileSync(new URL(file, root), 'utf8')
const [shown = '', notShown = ''] = read('docs/faults.md').split('## What is not shown')

/** Row, and the cell that says what shows it. */
const rows = shown.split('\n').flatMap((line) => {
  const [row, , , by] = line.split(' | ')
  return /^\| \d+$/.test(row ?? '') ? [{ row: Number(row?.slice(2)), by: (by ?? '').replace(/ \|$/, '') }] : []
})

const wanted = [
  ...Array.from({ length: 41 }, (_, i) => i + 1),
  46,
  47,
  53,
  54,
  55,
  56,
  57,
  58,
  59,
  60,
  61,
  62,
  63,
  64,
  65,
  66,
  67,
  68,
]

test('every row is there once', () => {
  expect(rows.map(({ row }) => row)).toEqual(wanted)
})

test.each(rows)('what shows row $row exists', ({ row, by }) => {
  const claims = by.split('<br>')
  for (const claim of claims) {
    const [, file = '', name] = /^`(test\/[\w/.-]+\.test\.ts)`(?:: “(.+)”)?$/.exec(claim) ?? []
    expect([claim, existsSync(fileURLToPath(new URL(file, root)))]).toEqual([claim, file !== ''])
    const text = read(file)
    expect([claim, text.includes(name ?? `'row ${row}: `)]).toEqual([claim, true])
  }
})

test('every test that is named after a row is in the table, and what is not shown names its files right', () => {
  const files = [
    'claims',
    'clients',
    'crash',
    'driver',
    'postgres',
    'processes',
    'races',
    'redis',
    'upkeep',
    'webhooks',
  ]
  for (const name of files) {
    const file = `test/faults/row-${name}.test.ts`
    for (const [, number] of read(file).matchAll(/'row (\d+): /g)) {
      expect([file, number, rows.find(({ row }) => row === Number(number))?.by]).toEqual([
        file,
        number,
        expect.stringContaining(`\`${file}\``),
      ])
    }
  }
  for (const [file] of `${shown}${notShown}`.matchAll(/test\/[\w/.-]+\.test\.ts/g))
    expect([file, existsSync(fileURLToPath(new URL(file, root)))]).toEqual([file, true])
})
