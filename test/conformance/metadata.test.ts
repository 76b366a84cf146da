// The metadata of checkpoints: stored without what the row says already, read as it was given.

import { uuid6 } from '@langchain/langgraph-checkpoint'
import fc from 'fast-check'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as checkpoints from '../../src/db/checkpoints.ts'
import * as commands from '../../src/db/commands.ts'
import type { Database } from '../../src/db/db.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as threads from '../../src/db/threads.ts'
import { kinds, openEmpty } from '../support/databases.ts'

const [mine, other] = [v7(), v7()]
const given = fc.record({
  run_id: fc.constantFrom(mine, null),
  metadata: fc.record(
    { step: fc.nat(), run_id: fc.constantFrom(mine, other, 'none'), user: fc.constantFrom('ann', 'bob') },
    { requiredKeys: ['step'] },
  ),
})

describe.each(kinds)('metadata on %s', (kind) => {
  let db: Database
  beforeAll(async () => {
    db = await openEmpty(kind)
  })
  afterAll(() => db.close())

  test('reads, is found and is copied as it was given, whoever wrote it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(given, { minLength: 1, maxLength: 8 }), async (puts) => {
        const thread_id = v7()
        await db.rows(sql`insert into threads (thread_id, metadata) values (${thread_id}, '{}')`)
        const ids = puts.map((_, i) => uuid6(i))
        for (const [i, { run_id, metadata }] of puts.entries())
          await checkpoints.store(db, {
            puts: [
              {
                thread_id,
                checkpoint_ns: '',
                checkpoint_id: ids[i] as string,
                parent_checkpoint_id: ids[i - 1] ?? null,
                checkpoint: { v: 4, channel_versions: {} },
                metadata,
                values: [],
              },
            ],
            writes: [],
            run_id,
          })
        const meant = puts.map(({ metadata }) => metadata).reverse()
        const listed = async (thread: string, filter?: Record<string, unknown>) => {
          const found = await checkpoints.list(db, { thread_id: thread, ...(filter && { metadata: filter }) })
          return found.map(({ metadata }) => metadata)
        }
        expect(await listed(thread_id)).toEqual(meant)
        const named = await commands.listCheckpoints(db, thread_id, { checkpoint_ns: '', limit: 10, before: undefined })
        expect(named.map(({ metadata }) => metadata)).toEqual(meant)
        const copy = await threads.copy(db, thread_id, all)
        expect(await listed(copy.thread_id)).toEqual(meant)
        for (const filter of [{ run_id: mine }, { run_id: other }, { user: 'ann', run_id: mine }, { user: 'bob' }]) {
          const matches = meant.filter((one) =>
            Object.entries(filter).every(([key, value]) => (one as Record<string, unknown>)[key] === value),
          )
          expect(await listed(thread_id, filter)).toEqual(matches)
          expect(await listed(copy.thread_id, filter)).toEqual(matches)
        }
        const repeated = await db.rows(sql`select 1 from checkpoints where thread_id = ${thread_id}::uuid
          and metadata ->> 'run_id' = run_id::text`)
        expect(repeated).toEqual([])
      }),
      { numRuns: 60 },
    )
  }, 60_000)
})
