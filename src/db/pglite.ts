// The driver for the embedded database. In charge of the data directory and its lock: PGlite lets a second process open
// the same directory, which can only corrupt it.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import type { Database, Db } from './db.ts'
import { lockDirectory } from './lock.ts'
import type { Sql } from './sql.ts'
import { interpret } from './sqlstate.ts'
import { parsers } from './types.ts'

/** Opens the database in `dataDir`, or one that lives in memory. Throws `ConfigError` when another process has it open. */
export async function openPglite(options: { dataDir?: string }): Promise<Database> {
  const unlock = options.dataDir === undefined ? undefined : lockDirectory(options.dataDir)
  if (options.dataDir !== undefined) mkdirSync(join(options.dataDir, 'pgdata'), { recursive: true })
  const lite = await PGlite.create({
    ...(options.dataDir !== undefined && { dataDir: join(options.dataDir, 'pgdata') }),
    parsers: { ...parsers },
  }).catch((error: unknown) => {
    unlock?.()
    throw error
  })
  await lite.exec(`set timezone = 'UTC'`)

  const over = (engine: Pick<PGlite, 'query'>): Pick<Db, 'rows'> => ({
    rows: async <T>(query: Sql) => {
      try {
        return (await engine.query<T>(query.text, query.values as unknown[])).rows
      } catch (error) {
        throw interpret(error)
      }
    },
  })
  return {
    ...over(lite),
    kind: 'pglite',
    description: options.dataDir === undefined ? 'embedded, in memory' : `embedded, ${options.dataDir}`,
    script: async (text) => void (await lite.exec(text)),
    close: async () => {
      await lite.close()
      unlock?.()
    },
    tx: (work) =>
      lite.transaction((inner) => {
        const db: Db = { ...over(inner), tx: (nested) => nested(db) }
        return work(db)
      }),
  }
}
