// The rules of the layers, held against the sources; and the proof that a breach of each would be found.

import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { breaches, type Sources } from './support/architecture.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

function sources(): Sources {
  const files = readdirSync(`${root}src`, { recursive: true, encoding: 'utf8' }).filter((file) =>
    /\.[cm]?tsx?$/.test(file),
  )
  return Object.fromEntries(
    files.map((file) => [`src/${file.replaceAll('\\', '/')}`, readFileSync(`${root}src/${file}`, 'utf8')]),
  )
}

test('the sources keep every rule of the layers', () => {
  const all = sources()
  expect(Object.keys(all).length).toBeGreaterThan(20)
  expect(breaches(all)).toEqual([])
})

// What only the tests need is not installed with the package.
test('what serves WebSockets is a dependency of the package', () => {
  const { dependencies, peerDependencies = {} } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
  expect(Object.keys({ ...dependencies, ...peerDependencies })).toContain('ws')
})

const HEAD = '// In charge of an example.\n'

test.each<[rule: string, files: Sources, breach: string]>([
  [
    'a layer that imports one above it',
    { 'src/db/a.ts': `${HEAD}import { x } from '../runs/b.ts'` },
    'src/db/a.ts: db may not import runs (../runs/b.ts)',
  ],
  [
    'a dynamic import of a layer above',
    { 'src/bus/a.ts': `${HEAD}const b = () => import('../http/b.ts')` },
    'src/bus/a.ts: bus may not import http (../http/b.ts)',
  ],
  [
    'a type taken from a layer beside',
    { 'src/http/a.ts': `${HEAD}import type { X } from '../worker/b.ts'` },
    'src/http/a.ts: http may not import worker (../worker/b.ts)',
  ],
  [
    'an export from a layer above',
    { 'src/contract/a.ts': `${HEAD}export * from '../db/b.ts'` },
    'src/contract/a.ts: contract may not import db (../db/b.ts)',
  ],
  [
    'a leaf that imports',
    { 'src/errors.ts': `${HEAD}import './observe.ts'` },
    'src/errors.ts: errors may not import observe (./observe.ts)',
  ],
  ['an unknown folder', { 'src/misc/a.ts': HEAD }, 'src/misc/a.ts: misc is no known layer'],
  [
    'hono outside http',
    { 'src/runs/a.ts': `${HEAD}import { Hono } from 'hono/tiny'` },
    'src/runs/a.ts: imports hono/tiny, which only http/ may',
  ],
  [
    'pg outside db',
    { 'src/worker/a.ts': `${HEAD}import pg from 'pg'` },
    'src/worker/a.ts: imports pg, which only db/ may',
  ],
  [
    'PGlite outside db',
    { 'src/app.ts': `${HEAD}await import('@electric-sql/pglite')` },
    'src/app.ts: imports @electric-sql/pglite, which only db/ may',
  ],
  ['redis outside bus', { 'src/app.ts': `${HEAD}import 'redis'` }, 'src/app.ts: imports redis, which only bus/ may'],
  [
    'langchain outside executor',
    { 'src/graph/a.ts': `${HEAD}import type { X } from '@langchain/core/messages'` },
    'src/graph/a.ts: imports @langchain/core/messages, which only executor/ may',
  ],
  [
    'a contract that imports more than zod',
    { 'src/contract/a.ts': `${HEAD}import 'uuid'` },
    'src/contract/a.ts: imports uuid; a contract imports only zod',
  ],
  [
    'process.env outside the settings',
    { 'src/db/a.ts': `${HEAD}export const a = () => process.env.A` },
    'src/db/a.ts:2: reads process.env',
  ],
  [
    'env imported from node:process',
    { 'src/db/a.ts': `${HEAD}import { env } from 'node:process'` },
    'src/db/a.ts:2: reads process.env',
  ],
  ['a default export', { 'src/db/a.ts': `${HEAD}export default 1` }, 'src/db/a.ts:2: has a default export'],
  [
    'a default function',
    { 'src/db/a.ts': `${HEAD}export default function a() {}` },
    'src/db/a.ts:2: has a default export',
  ],
  [
    'mutable state in a module',
    { 'src/db/a.ts': `${HEAD}let count = 0` },
    'src/db/a.ts:2: has mutable module-level state',
  ],
  [
    'a module-level map that changes',
    { 'src/db/a.ts': `${HEAD}const m = new Map()\nconst f = () => m.set(1, 2)` },
    'src/db/a.ts:3: changes m, which is module-level',
  ],
  [
    'a module-level object that changes',
    { 'src/db/a.ts': `${HEAD}const o: O = {}\nfunction f() {\n  o.a = 1\n}` },
    'src/db/a.ts:4: changes o, which is module-level',
  ],
  ['a file that is too long', { 'src/db/a.ts': HEAD + '\n'.repeat(400) }, 'src/db/a.ts: 401 lines, more than 400'],
  [
    'a file that does not say what it is for',
    { 'src/db/a.ts': 'export const a = 1\n' },
    'src/db/a.ts: does not begin with a comment that says what it is in charge of',
  ],
  [
    'a folder whose name says nothing',
    { 'src/db/utils/a.ts': HEAD },
    'src/db/utils/a.ts: is in a folder whose name says nothing',
  ],
])('finds %s', (_, files, breach) => {
  expect(breaches(files)).toEqual([breach])
})

test('finds a cycle, also of types, once', () => {
  const files = {
    'src/db/a.ts': `${HEAD}import './b.ts'`,
    'src/db/b.ts': `${HEAD}import type { C } from './c.ts'`,
    'src/db/c.ts': `${HEAD}import './a.ts'`,
  }
  expect(breaches(files)).toEqual(['src/db/a.ts: is in a cycle: src/db/a.ts → src/db/b.ts → src/db/c.ts → src/db/a.ts'])
})

test('allows what the direction allows', () => {
  const files = {
    'src/cli/a.ts': `${HEAD}import '../app.ts'\nimport '../config.ts'`,
    'src/http/a.ts': `${HEAD}import { Hono } from 'hono'\nimport '../runs/b.ts'\nimport '../db/c.ts'\nimport '../errors.ts'`,
    'src/runs/b.ts': `${HEAD}import type { X } from '../bus/bus.ts'\nimport '../contract/d.ts'\nconst local = () => {\n  let count = 0\n  return count++\n}`,
    'src/variables.ts': `${HEAD}import './errors.ts'\nexport const e = () => process.env`,
  }
  expect(breaches(files)).toEqual([])
})
