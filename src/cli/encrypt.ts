// `heddle encrypt`: encrypts with the first key of LANGGRAPH_AES_KEY whatever in the database is not. Starts nothing else.

import { encryptAll } from '../db/encryption.ts'
import { migrate } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import { type DatabaseOptions, readDatabase } from './database.ts'
import { say } from './serve.ts'

/** Encrypts the database of the environment, of the project's `env`, or of `--data-dir`. Throws `ConfigError`. */
export async function encryptCommand(options: DatabaseOptions): Promise<void> {
  const { settings, environment, log } = readDatabase(options, 'encrypt')
  const database = await openDatabase(settings, log, environment.server.aesKeys)
  try {
    await migrate(database)
    const done = new Map<string, number>()
    await encryptAll(database, (table, rows) => done.set(table, (done.get(table) ?? 0) + rows))
    const words = [...done].map(([table, rows]) => `${rows} of ${table}`).join(', ')
    say(
      words === ''
        ? `Nothing to do: the database (${database.description}) is encrypted with the first key.`
        : `Encrypted rows of the database (${database.description}): ${words}.`,
    )
  } finally {
    await database.close()
  }
}
