// `heddle import-checkpoints`: brings the threads of a database of @langchain/langgraph-checkpoint-postgres in. In charge of
// whose they are to be and of what is said on the way; what a thread becomes is graph/import.ts's.

import { executorVariables, processVariables } from '../config.ts'
import * as assistants from '../db/assistants.ts'
import type { Db } from '../db/db.ts'
import { admit } from '../db/encryption.ts'
import { migrate } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import { all } from '../db/sql.ts'
import { readStock, type StockDatabase } from '../db/stock.ts'
import { ApiError, ConfigError } from '../errors.ts'
import { createChildExecutor } from '../executor/child-process.ts'
import type { Executor, Storage } from '../executor/executor.ts'
import { createStockWriters } from '../executor/stock.ts'
import { type ImportDeps, type Imported, importThread, type Owner } from '../graph/import.ts'
import { createRegistry, defaultAssistantId, ensureAssistants } from '../graph/registry.ts'
import { type DatabaseOptions, type Named, readDatabase } from './database.ts'
import { say } from './serve.ts'

export interface ImportOptions extends DatabaseOptions {
  from: string
  schema: string
  assistant?: string
  dryRun?: boolean
}

/** A thread is read at one moment; no transaction there lasts longer. */
type Read = <T>(work: (stock: StockDatabase) => Promise<T>) => Promise<T>

const BATCH = 500
const SAY_EVERY_MS = 2_000

/** Brings threads in and says how it went. Sets the exit code to 1 where one was left out. Throws `ConfigError`. */
export async function importCommand(options: ImportOptions): Promise<void> {
  if (!/^postgres(ql)?:\/\//.test(options.from) || !URL.canParse(options.from))
    throw new ConfigError('--from must be an address that begins with postgres:// or postgresql://.')
  const named = readDatabase(options, 'import-checkpoints')
  if (named.project === undefined)
    throw new ConfigError(
      'heddle import-checkpoints needs the graphs of the threads: name their langgraph.json with --config.',
    )
  const opened: { close(): Promise<void> }[] = []
  try {
    const db = await openDatabase(named.settings, named.log, named.environment.server.aesKeys)
    opened.unshift(db)
    await migrate(db)
    await admit(db)
    const source = await openDatabase({ uri: options.from, poolSize: 1 }, named.log)
    opened.unshift(source)
    const { executor, lend } = openExecutor(named)
    opened.unshift(executor)
    await ensureAssistants(db, await executor.start())
    const ownerOf = await owners(db, executor, options.assistant)
    const writers = await createStockWriters()
    const deps: ImportDeps = { db, executor, lend, writers, ownerOf, dryRun: options.dryRun ?? false }
    const read: Read = (work) => readStock(source, options.schema, work)
    const left = await importAll(deps, read)
    if (left > 0) process.exitCode = 1
  } finally {
    for (const part of opened) await part.close()
  }
}

/** An executor for reading states. It reads what is lent to it. */
function openExecutor({ project, environment, log }: Named): { executor: Executor; lend: (storage: Storage) => void } {
  let lent: Storage | undefined
  const storage = (): Storage => {
    if (lent === undefined) throw new ApiError('executor_unavailable')
    return lent
  }
  const executor = createChildExecutor({
    graphs: project?.graphs ?? [],
    projectDir: project?.dir ?? '.',
    env: executorVariables(processVariables(), project?.env ?? {}),
    storage: {
      'checkpoint.get': (params) => storage()['checkpoint.get'](params),
      'checkpoint.list': (params) => storage()['checkpoint.list'](params),
      'store.batch': (params) => storage()['store.batch'](params),
    },
    observe: log,
    stallMs: environment.server.executorStallSeconds * 1_000,
  })
  return {
    executor,
    lend: (of) => {
      lent = of
    },
  }
}

/** Says whose a thread is: the assistant that was named, or else the graph that its metadata names, or the only one. */
async function owners(db: Db, executor: Executor, named: string | undefined): Promise<ImportDeps['ownerOf']> {
  const registry = createRegistry({ executor })
  const broken = executor.graphs().find(({ error }) => error !== undefined)
  if (broken !== undefined) throw new ConfigError(`graphs.${broken.graph_id}: ${broken.error}`)
  if (named !== undefined) {
    const assistant = await assistants.find(db, registry.resolve(named), all)
    if (assistant === undefined) throw new ConfigError(`--assistant: there is no assistant or graph "${named}".`)
    const { graph_id } = registry.graph(assistant.graph_id)
    return () => ({ graph_id, assistant_id: assistant.assistant_id })
  }
  const ids = executor.graphs().map(({ graph_id }) => graph_id)
  const own = (graph_id: string): Owner => ({ graph_id, assistant_id: defaultAssistantId(graph_id) })
  return ({ graph_id }) => {
    const said = ids.find((id) => id === graph_id)
    return said !== undefined ? own(said) : ids.length === 1 ? own(ids[0] as string) : undefined
  }
}

/** Brings every thread in, one after the other; gives how many were left out. */
async function importAll(deps: ImportDeps, read: Read): Promise<number> {
  const count = await read((stock) => stock.count())
  const done = { imported: 0, unchanged: 0, left_out: 0, checkpoints: 0, bytes: 0 }
  const words = deps.dryRun ? 'Would import' : 'Imported'
  let said = performance.now()
  for (let after: string | undefined; ; ) {
    const page = await read((stock) => stock.threads(after, BATCH))
    if (page.length === 0) break
    for (const { thread_id } of page) {
      const outcome: Imported = await read((stock) => importThread(deps, stock, thread_id))
      done[outcome.kind]++
      if (outcome.kind === 'left_out') say(`Left out thread ${thread_id}: ${outcome.reason}`)
      if (outcome.kind === 'imported') {
        done.checkpoints += outcome.checkpoints
        done.bytes += outcome.bytes
      }
      if (performance.now() - said < SAY_EVERY_MS) continue
      said = performance.now()
      say(`${done.imported + done.unchanged + done.left_out} of ${count} threads, ${done.checkpoints} checkpoints`)
    }
    after = page.at(-1)?.thread_id
  }
  say(
    `${words} ${done.imported} of ${count} threads: ${done.checkpoints} checkpoints, ${done.bytes} bytes of values. Unchanged: ${done.unchanged}. Left out: ${done.left_out}.`,
  )
  return done.left_out
}
