// The order in which searches give what was made at the same moment: the clock of the embedded database knows no microseconds.

import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as assistants from '../../src/db/assistants.ts'
import * as crons from '../../src/db/crons.ts'
import type { Database } from '../../src/db/db.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as threads from '../../src/db/threads.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'

describe.each(['embedded', 'postgres'] as const)('on %s', (kind) => {
  let home: TestDatabase | undefined
  let db: Database
  const ids = [v7(), v7(), v7()] as const
  beforeAll(async () => {
    if (kind === 'postgres') home = await createDatabase()
    db = await openDatabase(home ? { uri: home.uri, poolSize: 1 } : { memory: true }, () => {})
    await migrate(db)
    for (const id of ids) {
      const known = { graph_id: 'g', config: {}, context: {}, metadata: {}, name: 'n', description: null }
      await assistants.create(db, { ...known, assistant_id: id }, 'raise', all)
      await threads.create(db, { thread_id: id, metadata: {}, isNew: true }, 'raise', all)
      const planned = { schedule: '0 0 1 1 *', timezone: null, end_time: null, next_run_date: null, enabled: false }
      const cron = {
        cron_id: id,
        assistant_id: id,
        thread_id: null,
        on_run_completed: 'keep' as const,
        payload: {},
        metadata: {},
      }
      await crons.insert(db, { ...cron, ...planned })
    }
    for (const table of ['assistants', 'threads', 'crons'])
      await db.script(`update ${table} set created_at = '2026-01-01Z'`)
  })
  afterAll(async () => {
    await db.close()
    await home?.drop()
  })

  const page = (sort_order: 'asc' | 'desc') => ({ limit: 10, offset: 0, sort_order })
  const searches = {
    assistants: async (order: 'asc' | 'desc') =>
      (await assistants.search(db, {}, page(order), sql`graph_id = 'g'`)).rows.map((row) => row.assistant_id),
    threads: async (order: 'asc' | 'desc') =>
      (await threads.search(db, {}, page(order), all)).rows.map((row) => row.thread_id),
    crons: async (order: 'asc' | 'desc') =>
      (await crons.search(db, {}, page(order), all)).rows.map((row) => row.cron_id),
  }

  test.each(['assistants', 'threads', 'crons'] as const)('of %s, the last made comes first, or last', async (what) => {
    expect(await searches[what]('desc')).toEqual([...ids].reverse())
    expect(await searches[what]('asc')).toEqual(ids)
  })
})
