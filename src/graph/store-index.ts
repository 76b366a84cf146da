// Opening the semantic index. In charge of finding out at the start whether it can work: the extension, the settings it was
// made with, and the function or model that makes its vectors.

import type { Database } from '../db/db.ts'
import * as semantic from '../db/semantic.ts'
import * as unembedded from '../db/unembedded.ts'
import { ApiError, ConfigError } from '../errors.ts'
import type { Executor } from '../executor/executor.ts'
import type { Observe } from '../observe.ts'
import type { StoreDeps, StoreIndex } from './store.ts'

/** Opens the index. `anew` says when it is emptied for these settings; otherwise others than it has are refused. Throws
 *  `ConfigError`. */
export async function openIndex(
  deps: { db: Database; executor: Pick<Executor, 'call'>; observe: Observe },
  settings: StoreIndex,
  { anew }: { anew?: semantic.Anew } = {},
): Promise<NonNullable<StoreDeps['index']>> {
  const { db, executor, observe } = deps
  const { dims, fields } = settings
  const { value: _, ...source } = settings.embed
  await executor.call('embed', { source, dims, documents: [], queries: [] }).catch((error: unknown) => {
    throw error instanceof ApiError && error.code === 'embedding_failed' ? new ConfigError(error.message) : error
  })
  const table = await semantic.prepare(db, { dims, embed: source.name, fields }, anew)
  if (anew === undefined) {
    const items = await unembedded.count(db, table)
    if (items > 0) observe({ kind: 'store_unembedded', items })
  }
  return { ...settings, table }
}
