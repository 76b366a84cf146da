// The database that a command of its own works on: that of the environment, of the project's `env`, or of `--data-dir`.

import { existsSync } from 'node:fs'
import { type Environment, processVariables, readEnvironment } from '../config.ts'
import type { DatabaseSettings } from '../db/open.ts'
import { ConfigError } from '../errors.ts'
import { type Project, readProject } from '../langgraph-json.ts'
import { createLog, type Log } from './log.ts'

export interface DatabaseOptions {
  config?: string
  dataDir?: string
}

export interface Named {
  settings: DatabaseSettings
  environment: Environment
  /** Absent where there is no langgraph.json and none was asked for. */
  project: Project | undefined
  log: Log
}

/** Reads which database a command is to work on. Throws `ConfigError` where nobody says. */
export function readDatabase(options: DatabaseOptions, command: string): Named {
  const variables = processVariables()
  const file = options.config ?? (existsSync('langgraph.json') ? 'langgraph.json' : undefined)
  const project = file === undefined ? undefined : readProject(file, variables)
  const environment = readEnvironment({ ...project?.env, ...variables })
  const settings =
    options.dataDir !== undefined
      ? { dataDir: options.dataDir }
      : environment.database && { uri: environment.database.uri, poolSize: 1 }
  if (!settings) {
    throw new ConfigError(
      `heddle ${command} needs a database: set DATABASE_URI, or give --data-dir for an embedded one.`,
    )
  }
  const log = createLog(environment.log, process.stderr)
  process.on('exit', log.flush)
  return { settings, environment, project, log }
}
