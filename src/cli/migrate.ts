// `heddle migrate`: brings a database up to date and says what was done. Starts nothing else.

import { existsSync } from 'node:fs'
import { processVariables, readEnvironment } from '../config.ts'
import { migrate } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import { ConfigError } from '../errors.ts'
import { readProject } from '../langgraph-json.ts'
import { createLog } from './log.ts'
import { say } from './serve.ts'

/** Migrates the database of the environment, of the project's `env`, or of `--data-dir`. Throws `ConfigError`. */
export async function migrateCommand(options: { config?: string; dataDir?: string }): Promise<void> {
  const variables = processVariables()
  const file = options.config ?? (existsSync('langgraph.json') ? 'langgraph.json' : undefined)
  const env = file === undefined ? {} : readProject(file, variables).env
  const environment = readEnvironment({ ...env, ...variables })
  const settings =
    options.dataDir !== undefined
      ? { dataDir: options.dataDir }
      : environment.database && { uri: environment.database.uri, poolSize: 1 }
  if (!settings) {
    throw new ConfigError('heddle migrate needs a database: set DATABASE_URI, or give --data-dir for an embedded one.')
  }
  const log = createLog(environment.log, process.stderr)
  process.on('exit', log.flush)
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
