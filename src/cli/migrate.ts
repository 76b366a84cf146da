// `heddle migrate`: brings a database up to date and says what was done. Starts nothing else.

import { migrate } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import { type DatabaseOptions, readDatabase } from './database.ts'
import { say } from './serve.ts'

/** Migrates the database of the environment, of the project's `env`, or of `--data-dir`. Throws `ConfigError`. */
export async function migrateCommand(options: DatabaseOptions): Promise<void> {
  const { settings, log } = readDatabase(options, 'migrate')
  const database = await openDatabase(settings, log)
  try {
    const applied = await migrate(database)
    say(
      applied.length === 0
        ? `Nothing to do: the database (${database.description}) is up to date.`
        : `Migrated the database (${database.description}): ${applied.join(', ')}.`,
    )
  } finally {
    await database.close()
  }
}
