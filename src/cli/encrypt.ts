// `heddle encrypt`: encrypts with the first key of LANGGRAPH_AES_KEY whatever in the database is not. Starts nothing else.

import { existsSync } from 'node:fs'
import { processVariables, readEnvironment } from '../config.ts'
import { encryptAll } from '../db/encryption.ts'
import { migrate } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import { ConfigError } from '../errors.ts'
import { readProject } from '../langgraph-json.ts'
import { createLog } from './log.ts'
import { say } from './serve.ts'

/** Encrypts the database of the environment, of the project's `env`, or of `--data-dir`. Throws `ConfigError`. */
export async function encryptCommand(options: { config?: string; dataDir?: string }): Promise<void> {
  const variables = processVariables()
  const file = options.config ?? (existsSync('langgraph.json') ? 'langgraph.json' : undefined)
  const env = file === undefined ? {} : readProject(file, variables).env
  const environment = readEnvironment({ ...env, ...variables })
  const settings =
    options.dataDir !== undefined
      ? { dataDir: options.dataDir }
      : environment.database && { uri: environment.database.uri, poolSize: 1 }
  if (!settings) {
    throw new ConfigError('heddle encrypt needs a database: set DATABASE_URI, or give --data-dir for an embedded one.')
  }
  const log = createLog(environment.log, process.stderr)
  process.on('exit', log.flush)
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
