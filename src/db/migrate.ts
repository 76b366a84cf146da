// Numbered, forward-only migrations. In charge of applying each once whoever starts first, and of refusing a database
// that a newer Heddle has migrated.

import { readdirSync, readFileSync } from 'node:fs'
import { ConfigError } from '../errors.ts'
import type { Database } from './db.ts'
import { sql } from './sql.ts'

const LOCK = 4_837_201_144

/** Applies what is missing; gives the names of the migrations it applied, in order. */
export async function migrate(database: Database): Promise<string[]> {
  const known = migrations()
  return database.tx(async (db) => {
    // The lock ends with the transaction, so a migrator that dies lets the next one in.
    await db.rows(sql`select pg_advisory_xact_lock(${LOCK})::text`)
    await db.rows(
      sql`create table if not exists heddle_migrations (name text primary key, applied_at timestamptz not null default clock_timestamp())`,
    )
    const applied = new Set(
      (await db.rows<{ name: string }>(sql`select name from heddle_migrations`)).map(({ name }) => name),
    )
    const unknown = [...applied].filter((name) => !known.some((migration) => migration.name === name))
    if (unknown.length) {
      throw new ConfigError(
        `The database was migrated by a newer Heddle (${unknown.join(', ')}): update this one, or use another database.`,
      )
    }
    const missing = known.filter(({ name }) => !applied.has(name))
    for (const { name, statements } of missing) {
      for (const statement of statements) await db.rows(sql(Object.assign([statement], { raw: [statement] })))
      await db.rows(sql`insert into heddle_migrations (name) values (${name})`)
    }
    return missing.map(({ name }) => name)
  })
}

function migrations(): { name: string; statements: string[] }[] {
  const dir = new URL('./migrations/', import.meta.url)
  return readdirSync(dir)
    .filter((file) => /^\d{4}_\w+\.sql$/.test(file))
    .sort()
    .map((file) => ({ name: file.slice(0, -4), statements: split(readFileSync(new URL(file, dir), 'utf8')) }))
}

/** Statements end with a semicolon at the end of a line; function bodies between $$ may hold their own. */
function split(text: string): string[] {
  const statements: string[] = []
  let current = ''
  let quoted = false
  for (const line of text.split('\n')) {
    if (!quoted && /^\s*(--|$)/.test(line)) continue
    current += `${line}\n`
    if ((line.match(/\$\$/g)?.length ?? 0) % 2 === 1) quoted = !quoted
    if (!quoted && line.trimEnd().endsWith(';')) {
      statements.push(current)
      current = ''
    }
  }
  if (current.trim()) statements.push(current)
  return statements
}
