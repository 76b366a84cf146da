// Whether the database is encrypted, and with which key. In charge of refusing to start where the answer is not that of the
// settings: a server without the key would write what the others refuse to read.

import { ApiError, ConfigError } from '../errors.ts'
import { type Db, one } from './db.ts'
import { resealAll, type SealedDb } from './reseal.ts'
import type { Seal } from './seal.ts'
import { sql } from './sql.ts'

const NAME = ['encryption']
const TEXT = Buffer.from('heddle')

const readCheck = (db: Db): Promise<{ key_check: Uint8Array } | undefined> =>
  one(db.rows(sql`select key_check from encryption`))

/** Holds the keys against the database; one in which nothing was written yet is encrypted from now on, where there are keys.
 *  Throws `ConfigError`. */
export async function admit(db: Db): Promise<void> {
  const { seal } = db
  const check = await readCheck(db)
  if (seal === undefined) {
    if (check === undefined) return
    throw new ConfigError('The database is encrypted: set LANGGRAPH_AES_KEY to the key that it is encrypted with.')
  }
  if (check !== undefined) return verify(seal, check.key_check)
  if (await holdsText(db)) {
    throw new ConfigError(
      'LANGGRAPH_AES_KEY is set, and the database holds threads that are not encrypted: run heddle encrypt once, while no server runs.',
    )
  }
  await db.rows(sql`insert into encryption (key_check) values (${seal.seal(TEXT, NAME)}) on conflict do nothing`)
  const made = await readCheck(db)
  // Another process may have been first, with a key of its own.
  if (made !== undefined) verify(seal, made.key_check)
}

/** Encrypts with the first key whatever is not: what was written before encryption began, and what is under older keys, which
 *  are not needed afterwards. Servers with the same keys may run meanwhile; where nothing was encrypted before, none may.
 *  Throws `ConfigError`. */
export async function encryptAll(db: Db, told: (table: string, rows: number) => void): Promise<void> {
  const { seal } = db
  if (!isSealed(db) || seal === undefined) throw new ConfigError('heddle encrypt needs a key: set LANGGRAPH_AES_KEY.')
  const check = await readCheck(db)
  if (check !== undefined) verify(seal, check.key_check)
  else if (await anyWorker(db))
    throw new ConfigError('A server is running on the database, and would go on without encryption: stop it first.')
  await resealAll(db, told)
  await db.rows(sql`insert into encryption (key_check) values (${seal.seal(TEXT, NAME)})
    on conflict (is_only_row) do update set key_check = excluded.key_check`)
}

const isSealed = (db: Db): db is SealedDb => db.seal !== undefined

function verify(seal: Seal, check: Uint8Array): void {
  try {
    seal.open(check, NAME)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    throw new ConfigError(
      'The database is encrypted with a key that LANGGRAPH_AES_KEY does not hold: add that key, under its name, after the new one.',
    )
  }
}

const holdsText = async (db: Db): Promise<boolean> =>
  (
    await db.rows(sql`select where exists (select 1 from runs) or exists (select 1 from checkpoints)
      or exists (select 1 from threads where "values" is not null)`)
  ).length > 0

const anyWorker = async (db: Db): Promise<boolean> =>
  (await db.rows(sql`select 1 from workers where lease_until >= clock_timestamp() limit 1`)).length > 0
