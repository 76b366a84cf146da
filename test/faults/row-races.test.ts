// Races at the end of a run: whoever comes first has decided, and nothing of the losers is left behind.

import { expect, test } from 'vitest'
import { sql } from '../../src/db/sql.ts'
import { until } from '../support/until.ts'
import { createDice, createStage, settlements } from './rows/stage.ts'

const stage = createStage()

const ENDED = ['success', 'error', 'timeout', 'interrupted']
const ROUNDS = 500

test('row 21: in 500 races of finishing, cancelling, undoing and deleting, every run ends once and leaves nothing behind', {
  timeout: 90_000,
}, async () => {
  const { made } = stage
  const servers = [await stage.heddle(), await stage.heddle()] as const
  const dice = createDice(21)
  /** What each run was first seen to have come to. */
  const ends = new Map<string, string>()
  const threads: string[] = []
  const refusals: string[] = []

  const race = async (round: number) => {
    const [{ client }, { client: other }] = dice.yes() ? servers : ([servers[1], servers[0]] as const)
    const { thread_id: threadId } = await client.threads.create()
    threads.push(threadId)
    const gate = `gate ${round}`
    const node = ['first', 'second', 'third'][dice.below(3)] as string
    const run = await client.runs.create(threadId, 'steps', { input: { log: ['in'], hold: { [node]: gate } } })
    if (dice.yes()) await made.gates.reached(gate)
    const contenders: (() => Promise<unknown>)[] = [
      async () => made.gates.open(gate),
      () => other.runs.cancel(threadId, run.run_id, dice.yes()),
      () => client.runs.cancel(threadId, run.run_id, dice.yes(), 'rollback'),
      () => other.threads.delete(threadId),
      () => client.runs.create(threadId, 'steps', { input: { hold: null }, multitaskStrategy: 'rollback' }),
      () => other.runs.create(threadId, 'steps', { input: { hold: null }, multitaskStrategy: 'interrupt' }),
    ]
    const first = dice.below(contenders.length)
    const second = (first + 1 + dice.below(contenders.length - 1)) % contenders.length
    await Promise.all(
      [first, second].map(async (which) => {
        for (let turns = dice.below(4) * dice.below(8); turns > 0; turns--) await new Promise(setImmediate)
        try {
          await contenders[which]?.()
        } catch (error) {
          refusals.push(String((error as { status?: number }).status))
        }
      }),
    )
    made.gates.open(gate)
    await until('nothing runs on the thread', async () => {
      const rows = await rowsOf(threadId)
      for (const { run_id, status } of rows) if (ENDED.includes(status) && !ends.has(run_id)) ends.set(run_id, status)
      return rows.every(({ status }) => ENDED.includes(status))
    })
  }
  const db = await stage.database(2)
  const rowsOf = (threadId: string) =>
    db.rows<{ run_id: string; status: string }>(sql`select run_id, status from runs where thread_id = ${threadId}`)

  let next = 0
  const racer = async () => {
    while (next < ROUNDS) await race(next++)
  }
  await Promise.all(Array.from({ length: 10 }, racer))

  expect(new Set(refusals)).toEqual(new Set(['404', '409']))
  for (const threadId of threads) {
    for (const { run_id, status } of await rowsOf(threadId))
      expect([run_id, status]).toEqual([run_id, ends.get(run_id)])
  }
  const told = [...ends.keys()].map((id) => settlements(servers, id).length)
  expect(Math.max(...told)).toBe(1)
  expect(await db.rows(orphans)).toEqual([])
})

const orphans = sql`select 'held' as what, thread_id::text as id from threads where held_by is not null
  union all select 'run', run_id::text from runs where thread_id not in (select thread_id from threads)
  union all select 'checkpoint', run_id::text from checkpoints
    where thread_id not in (select thread_id from threads) or run_id not in (select run_id from runs)
  union all select 'write', run_id::text from checkpoint_writes
    where thread_id not in (select thread_id from threads) or run_id not in (select run_id from runs)
  union all select 'value', channel from checkpoint_values where thread_id not in (select thread_id from threads)
  union all select 'event', run_id::text from events where thread_id not in (select thread_id from threads)
  union all select 'state', thread_id::text from threads where thread_id not in (select thread_id from checkpoints)
    and coalesce("values"::text, 'null') not in ('null', '{}')`
