// Fresh, migrated Postgres databases on the tests' server. In charge of making one in a moment from a template that was
// migrated once per test run, and of dropping it; a drop that meets an open connection fails, which shows a leak.

import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { AesKeys } from '../../src/aes-keys.ts'
import type { Database } from '../../src/db/db.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { silent } from '../../src/observe.ts'
import { until } from './until.ts'

export interface TestDatabase {
  readonly uri: string
  /** Open connections of anybody to this database. */
  connections(): Promise<number>
  /** Fails when somebody is still connected after a moment. */
  drop(): Promise<void>
}

const TEMPLATE = 'HEDDLE_TEST_TEMPLATE'

/** Makes the template of this test run and names it in the environment; returns the way to drop it. */
export async function makeTemplate(): Promise<() => Promise<void>> {
  const name = `heddle_template_${randomUUID().replaceAll('-', '')}`
  await asAdmin((client) => client.query(`create database ${name}`))
  const database = await openDatabase({ uri: uriOf(name), poolSize: 1 }, silent)
  await migrate(database)
  await database.close()
  process.env[TEMPLATE] = name
  return async () => {
    await asAdmin((client) => client.query(`drop database if exists ${name} with (force)`))
  }
}

/** A database of its own with the present schema, or an empty one. */
export async function createDatabase({ migrated = true } = {}): Promise<TestDatabase> {
  const name = `heddle_test_${randomUUID().replaceAll('-', '')}`
  const template = migrated ? needed(TEMPLATE) : 'template0'
  await asAdmin((client) => client.query(`create database ${name} template ${template}`))
  const connections = async () => {
    const count = 'select count(*)::int as n from pg_stat_activity where datname = $1'
    return asAdmin(async (client) => (await client.query(count, [name])).rows[0].n as number)
  }
  return {
    uri: uriOf(name),
    connections,
    drop: async () => {
      await until(`no connection to ${name} is open`, async () => (await connections()) === 0, 5_000)
      await asAdmin((client) => client.query(`drop database ${name}`))
    },
  }
}

export const kinds = ['the embedded database', 'Postgres'] as const

/** An empty database of either kind with the present schema; closing it drops it. */
export async function openEmpty(kind: (typeof kinds)[number], aesKeys?: AesKeys): Promise<Database> {
  if (kind === 'Postgres') {
    const made = await createDatabase()
    const db = await openDatabase({ uri: made.uri, poolSize: 2 }, silent, aesKeys)
    const close = async () => {
      await db.close()
      await made.drop()
    }
    return { ...db, close }
  }
  const db = await openDatabase({ memory: true }, silent, aesKeys)
  await migrate(db)
  return db
}

/** A variable that the global setup sets. */
export function needed(key: string): string {
  const value = process.env[key]
  if (!value) throw new Error(`${key} is not set: run the tests with npm test, or with vitest's global setup`)
  return value
}

function uriOf(name: string): string {
  const uri = new URL(needed('TEST_DATABASE_URI'))
  uri.pathname = `/${name}`
  return uri.href
}

async function asAdmin<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: needed('TEST_DATABASE_URI') })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}
