// What a step waits for: with sync the database, with async and exit nothing. A lock on the thread's row holds up whatever is
// written of it.

import pg from 'pg'
import { expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { eachRunServer } from './run-server.ts'

for (const [name, config] of [
  ['of the run', undefined],
  ['of the server', { durability: 'sync' as const }],
] as const)
  eachRunServer(
    (server) => {
      /** Starts a run, holds it in its first node, locks its thread, and lets it go on. */
      async function locked(durability: 'sync' | 'async' | 'exit' | undefined) {
        const { client, gates } = server
        const settings = server.stack.database() as { uri: string }
        const lock = new pg.Client({ connectionString: settings.uri })
        await lock.connect()
        const threadId = await server.thread()
        const gate = `${threadId} first`
        const run = await client.runs.create(threadId, 'steps', {
          input: { log: [], hold: { first: gate } },
          ...(durability && { durability }),
        })
        await gates.reached(gate)
        await lock.query('begin')
        await lock.query('select 1 from threads where thread_id = $1 for update', [threadId])
        gates.open(gate)
        return {
          nodes: () => server.ran.filter(({ run_id }) => run_id === run.run_id).map(({ node }) => node),
          waits: async () => {
            const blocked = 'select 1 from pg_stat_activity where $1 = any(pg_blocking_pids(pid))'
            const { processID } = lock as unknown as { processID: number }
            return ((await observer(settings.uri, blocked, [processID])).rowCount ?? 0) > 0
          },
          async end() {
            await lock.query('commit')
            await lock.end()
            return (await server.ended(threadId, run.run_id)).status
          },
        }
      }

      if (config === undefined)
        test.each(['async', 'exit'] as const)('%s runs on while the database takes nothing', async (durability) => {
          const run = await locked(durability)
          await until('the last node has run', () => run.nodes().includes('third'))
          expect(await run.end()).toBe('success')
        })

      test(`sync, ${name}, begins no node before the last one is stored`, async () => {
        const run = await locked(config === undefined ? 'sync' : undefined)
        await until('the write waits for the lock', run.waits)
        // Time enough for a node that does not wait.
        for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate)
        expect(run.nodes()).toEqual(['first'])
        expect(await run.end()).toBe('success')
        expect(run.nodes()).toEqual(['first', 'second', 'third'])
      })
    },
    { only: ['postgres+redis', 'postgres'], ...(config && { config }) },
  )

async function observer(uri: string, text: string, values: unknown[]) {
  const client = new pg.Client({ connectionString: uri })
  await client.connect()
  try {
    return await client.query(text, values)
  } finally {
    await client.end()
  }
}
