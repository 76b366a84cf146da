// The driver for the embedded database: the same pool as for a server, of the one session that PGlite has. In charge of
// the data directory and its lock: PGlite lets a second process open the same directory, which can only corrupt it.

import { existsSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import type { Database } from './db.ts'
import { lockDirectory } from './lock.ts'
import { EngineStream } from './pglite-stream.ts'
import { overPool, types } from './pool.ts'
import type { Seal } from './seal.ts'

/** Opens the database in `dataDir`, or one that lives in memory. Throws `ConfigError` when another process has it open. */
export async function openPglite(options: {
  dataDir?: string
  vectors?: boolean
  seal?: Seal | undefined
}): Promise<Database> {
  const unlock = options.dataDir === undefined ? undefined : lockDirectory(options.dataDir)
  try {
    const dataDir = options.dataDir === undefined ? undefined : join(options.dataDir, 'pgdata')
    if (dataDir !== undefined && !existsSync(dataDir)) await initialise(dataDir)
    const lite = await openEngine(dataDir, options.vectors ?? false)
    // PGlite's own query() parses and plans each time; through pg's client a statement is prepared once (measured: 3.8
    // against 5.6 ms for a run's three statements), and what comes back is what a server gives.
    const pool = new pg.Pool({
      stream: () => new EngineStream(lite),
      user: 'postgres',
      database: 'postgres',
      max: 1,
      idleTimeoutMillis: 0,
      types,
      onConnect: begin,
    })
    await pool.query('select 1')
    return {
      ...overPool(pool, { named: true, alone: true, seal: options.seal }),
      kind: 'pglite',
      description: options.dataDir === undefined ? 'embedded, in memory' : `embedded, ${options.dataDir}`,
      reclaim: createReclaim(pool),
      close: async () => {
        await pool.end()
        await lite.close()
        unlock?.()
      },
    }
  } catch (error) {
    unlock?.()
    throw error
  }
}

/** Leaves of the connection before what a server would leave: nothing. The engine has one session, which outlives them. */
async function begin(client: pg.ClientBase): Promise<void> {
  await client.query('rollback')
  await client.query('discard all')
  await client.query(`set timezone = 'UTC'`)
}

/** How many rows may be changed or deleted before their room is freed. */
const DEAD_ROWS = 1_000

/** The embedded database has no autovacuum: what was replaced would take its room for ever. */
function createReclaim(pool: pg.Pool): () => Promise<void> {
  let before = 0
  return async () => {
    await pool.query('select pg_stat_force_next_flush()')
    const { rows } = await pool.query<{ changed: number }>(
      'select coalesce(sum(n_tup_upd + n_tup_del), 0)::float8 as changed from pg_stat_user_tables',
    )
    const changed = rows[0]?.changed ?? 0
    if (changed >= before && changed - before < DEAD_ROWS) return
    await pool.query('vacuum')
    before = changed
  }
}

/** The extension for vectors takes its time and memory: it is there only if it is asked for, or if the data hold some. */
async function openEngine(dataDir: string | undefined, vectors: boolean): Promise<PGlite> {
  const where = dataDir === undefined ? {} : { dataDir }
  if (!vectors) {
    const lite = await PGlite.create(where)
    const { rows } = await lite.query(`select 1 from pg_extension where extname = 'vector'`)
    if (rows.length === 0) return lite
    await lite.close()
  }
  const { vector } = await import('@electric-sql/pglite-pgvector')
  return PGlite.create({ ...where, extensions: { vector } })
}

/** Makes the files of a new database: in a thread, because the memory that this takes (half a gigabyte) comes back only
 *  with the thread's end; beside its place, so that a process killed meanwhile leaves nothing half made. */
async function initialise(dataDir: string): Promise<void> {
  const making = `${dataDir}.new`
  rmSync(making, { recursive: true, force: true })
  const engine = createRequire(import.meta.url).resolve('@electric-sql/pglite')
  const script = `const { engine, dataDir } = require('node:worker_threads').workerData
    require(engine).PGlite.create({ dataDir }).then((lite) => lite.close())`
  const worker = new Worker(script, { eval: true, workerData: { engine, dataDir: making }, execArgv: [] })
  await new Promise<void>((resolve, reject) => {
    worker.on('error', reject)
    worker.on('exit', (code) =>
      code === 0 ? resolve() : reject(new Error(`initialising ${dataDir} ended with ${code}`)),
    )
  })
  renameSync(making, dataDir)
}
