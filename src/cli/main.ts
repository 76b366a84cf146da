// The command line: which commands and flags there are. In charge of help, of refusing what is unknown, and of turning a
// mistake in the configuration into one sentence and exit code 1; the commands themselves are files beside this one.

import { Command, Option } from 'commander'
import { version } from '../config.ts'
import { ApiError, ConfigError, messageOf } from '../errors.ts'
import { optimiseLater } from '../tiering.ts'
import type { ImportOptions } from './import.ts'
import { withoutPasswords } from './log.ts'
import { type DevOptions, type StartOptions, whole } from './options.ts'

/** Runs the command line. `argv` is as in `process.argv`. Sets the exit code; a serving command goes on after this returns. */
export async function main(argv: readonly string[]): Promise<void> {
  optimiseLater()
  try {
    await program().parseAsync(argv)
  } catch (error) {
    process.stderr.write(withoutPasswords(`heddle: ${explain(error)}\n`))
    process.exit(1)
  }
}

function explain(error: unknown): string {
  if (error instanceof ConfigError || !(error instanceof Error)) return messageOf(error)
  if (!(error instanceof ApiError) || error.code !== 'database_unavailable') return error.stack ?? error.message
  const cause = error.cause instanceof AggregateError ? error.cause.errors[0] : error.cause
  return `The database cannot be reached: ${messageOf(cause)}.`
}

function program(): Command {
  const heddle = new Command('heddle')
    .description('An open, self-hosted LangGraph Server.')
    .version(version, '-v, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
  serving(heddle.command('dev'), 'serve the graphs of a project for developing: embedded database, reload on save')
    .option('--data-dir <path>', 'folder of the embedded database (default: .heddle beside the config)')
    .option('--no-reload', 'do not load the graphs anew when a file is saved')
    .addOption(new Option('--no-browser', 'accepted for scripts; no browser is ever opened').hideHelp())
    .action(async (options: DevOptions) => (await import('./dev.ts')).dev(options))
  serving(
    heddle.command('start'),
    'serve the graphs of a project in production, on the Postgres that DATABASE_URI names',
  )
    .option('--data-dir <path>', 'use an embedded database in this folder instead of DATABASE_URI')
    .addOption(new Option('--role <role>', 'what this process does').choices(['all', 'api', 'worker']).default('all'))
    .action(async (options: StartOptions) => (await import('./start.ts')).start(options))
  heddle
    .command('migrate')
    .description('bring the database up to date and say what was done')
    .version(version, '-v, --version', 'print the version')
    .option(
      '-c, --config <path>',
      'the langgraph.json whose env may name the database (default: ./langgraph.json if it is there)',
    )
    .option('--data-dir <path>', 'migrate the embedded database in this folder')
    .action(async (options: { config?: string; dataDir?: string }) =>
      (await import('./migrate.ts')).migrateCommand(options),
    )
  heddle
    .command('encrypt')
    .description('encrypt with the first key of LANGGRAPH_AES_KEY whatever in the database is not')
    .version(version, '-v, --version', 'print the version')
    .option(
      '-c, --config <path>',
      'the langgraph.json whose env may name the database (default: ./langgraph.json if it is there)',
    )
    .option('--data-dir <path>', 'encrypt the embedded database in this folder')
    .action(async (options: { config?: string; dataDir?: string }) =>
      (await import('./encrypt.ts')).encryptCommand(options),
    )
  heddle
    .command('reindex-store')
    .description('embed the items of the store anew, after a change of store.index')
    .version(version, '-v, --version', 'print the version')
    .option('-c, --config <path>', 'the project whose store.index counts', './langgraph.json')
    .option('--data-dir <path>', 'the store of the embedded database in this folder (of dev: .heddle)')
    .option('--all', 'every item, although the settings are the same', false)
    .action(async (options: { config: string; dataDir?: string; all: boolean }) =>
      (await import('./reindex-store.ts')).reindexStore(options),
    )
  heddle
    .command('import-checkpoints')
    .description('bring in the threads of a database of @langchain/langgraph-checkpoint-postgres')
    .version(version, '-v, --version', 'print the version')
    .requiredOption('--from <uri>', 'the Postgres to read')
    .option('--schema <name>', 'the schema of its tables', 'public')
    .option(
      '--assistant <id>',
      'the assistant or graph of the threads (default: the graph that they name, or the only one)',
    )
    .option('--dry-run', 'do everything but keep it')
    .option('-c, --config <path>', 'the project whose graphs the threads are of (default: ./langgraph.json)')
    .option('--data-dir <path>', 'import into the embedded database in this folder')
    .action(async (options: ImportOptions) => (await import('./import.ts')).importCommand(options))
  return heddle
}

const serving = (command: Command, description: string): Command =>
  command
    .description(description)
    .version(version, '-v, --version', 'print the version')
    .option('-c, --config <path>', 'the project to serve', './langgraph.json')
    .option('--host <host>', `address to listen on (default: ${command.name() === 'dev' ? '127.0.0.1' : '0.0.0.0'})`)
    .option(
      '-p, --port <port>',
      `port (default: PORT, else ${command.name() === 'dev' ? '2024, or the next free one' : '8000'})`,
      whole(0, 65_535),
    )
    .option(
      '--n-jobs-per-worker <n>',
      'runs at a time in this process (default: N_JOBS_PER_WORKER, else 10)',
      whole(1, 10_000),
    )
    .option('--executors <n>', 'child processes that run graphs (default: one less than cores)', whole(1, 1024))
