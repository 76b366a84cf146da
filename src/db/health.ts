// Whether the database answers. In charge of saying so once when it no longer does and once when it does again, however
// many statements fail meanwhile; decides nothing.

import { ApiError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import type { Database, Db } from './db.ts'

/** The health of one way to the database. */
export interface Health {
  /** Something failed; counts only where the database could not be reached. */
  failed(error: unknown): void
  worked(): void
}

/** True where the database could not be reached, or did not answer. */
export const isUnreachable = (error: unknown): boolean =>
  error instanceof ApiError && error.code === 'database_unavailable'

/** Observes `database_failed` and `database_restored` at the changes; `where` says which connections they are. */
export function createHealth(where: string, observe: Observe): Health {
  let downSince: number | undefined
  return {
    failed(error) {
      if (downSince !== undefined || !isUnreachable(error)) return
      downSince = performance.now()
      observe({ kind: 'database_failed', where, error })
    },
    worked() {
      if (downSince === undefined) return
      observe({ kind: 'database_restored', where, down_ms: performance.now() - downSince })
      downSince = undefined
    },
  }
}

/** The database, with its health observed by what becomes of its statements. */
export function watched(database: Database, where: string, observe: Observe): Database {
  const health = createHealth(where, observe)
  const watch = <T>(work: Promise<T>): Promise<T> => {
    work.then(health.worked, health.failed)
    return work
  }
  const rows: Db['rows'] = (query) => watch(database.rows(query))
  return { ...database, rows, last: rows, tx: (work) => watch(database.tx(work)) }
}
