// Opens a database by its settings. The only place that knows that there are two drivers.

import type { AesKeys } from '../aes-keys.ts'
import type { Observe } from '../observe.ts'
import type { Database } from './db.ts'
import { createSeal } from './seal.ts'

export type DatabaseSettings =
  | { uri: string; poolSize?: number; generic?: boolean }
  | { dataDir: string; vectors?: boolean }
  | { memory: true; vectors?: boolean }

/** Opens, without migrating. With keys, what rows hold is encrypted. `vectors` says that the embedded database is to hold some; a
 *  server has what it has. The driver that is not used is not even loaded. */
export async function openDatabase(settings: DatabaseSettings, observe: Observe, keys?: AesKeys): Promise<Database> {
  const seal = keys && createSeal(keys)
  if ('uri' in settings) {
    const { openPg } = await import('./pg.ts')
    return openPg({
      uri: settings.uri,
      poolSize: settings.poolSize ?? 10,
      generic: settings.generic ?? false,
      seal,
      onError: (error) => observe({ kind: 'database_failed', where: 'idle connection', error }),
    })
  }
  const { openPglite } = await import('./pglite.ts')
  const { vectors = false } = settings
  return openPglite({ seal, vectors, ...('dataDir' in settings && { dataDir: settings.dataDir }) })
}
