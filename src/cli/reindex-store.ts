// `heddle reindex-store`: embeds what the store holds with the present settings. In charge of saying how far it is; may run
// beside servers, and goes on where it was stopped.

import { migrate } from '../db/migrate.ts'
import { openDatabase } from '../db/open.ts'
import * as unembedded from '../db/unembedded.ts'
import { ApiError, ConfigError } from '../errors.ts'
import { createChildExecutor } from '../executor/child-process.ts'
import type { Storage } from '../executor/executor.ts'
import { createStore } from '../graph/store.ts'
import { openIndex } from '../graph/store-index.ts'
import { readStoreSettings } from '../graph/store-settings.ts'
import { createProgress } from './progress.ts'
import { readSetting, say } from './serve.ts'

/** Nothing that makes vectors reads checkpoints or the store. */
const refuse = (): Promise<never> => Promise.reject(new ApiError('not_supported'))
const nothing: Storage = { 'checkpoint.get': refuse, 'checkpoint.list': refuse, 'store.batch': refuse }

/** Embeds every item that the index has not seen; with `all`, every item. Throws `ConfigError`. */
export async function reindexStore(options: { config: string; dataDir?: string; all: boolean }): Promise<void> {
  const { project, environment, executorEnv, observe } = readSetting(options)
  const { index: settings } = readStoreSettings(project.store, project.dir)
  if (!settings) throw new ConfigError(`${project.file}: there is no store.index, so there is nothing to embed.`)
  const { dataDir } = options
  if (dataDir === undefined && !environment.database) {
    throw new ConfigError(
      'heddle reindex-store needs a database: set DATABASE_URI, or give --data-dir for an embedded one (of heddle dev: .heddle).',
    )
  }
  const where =
    dataDir === undefined ? { uri: environment.database?.uri ?? '', poolSize: 2 } : { dataDir, vectors: true }
  const executor = createChildExecutor({
    graphs: [],
    projectDir: project.dir,
    env: executorEnv,
    storage: nothing,
    observe,
  })
  const db = await openDatabase(where, observe)
  try {
    await migrate(db)
    await executor.start()
    const index = await openIndex({ db, executor, observe }, settings, { anew: options.all ? 'always' : 'changed' })
    const total = await unembedded.count(db, index.table)
    if (total === 0) return say(`Nothing to do: every item has its vectors (${db.description}).`)
    const progress = createProgress({ total, of: 'items', stream: process.stderr })
    const store = createStore({ db, executor, index })
    await store.reindex(progress.at)
    progress.end()
    say(`Embedded ${total} items with ${settings.embed.name} (${db.description}).`)
  } finally {
    await executor.close()
    await db.close()
  }
}
