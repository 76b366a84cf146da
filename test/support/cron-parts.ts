// Schedulers without servers: any number over one Postgres, with a clock that the test sets and graphs that exist in name only.
// In charge of nothing else; runs are created and stay pending.

import { v7 } from 'uuid'
import { createMemoryBus } from '../../src/bus/memory.ts'
import * as crons from '../../src/db/crons.ts'
import type { Database } from '../../src/db/db.ts'
import { openDatabase } from '../../src/db/open.ts'
import { type Sql, sql } from '../../src/db/sql.ts'
import type { GraphStatus } from '../../src/executor/protocol.ts'
import { createRegistry, defaultAssistantId, ensureAssistants } from '../../src/graph/registry.ts'
import type { Observation } from '../../src/observe.ts'
import { type FireDeps, fireDue } from '../../src/runs/fire.ts'
import { parseSchedule } from '../../src/runs/schedule.ts'
import { createDatabase } from './databases.ts'

export interface FiredRun {
  cron_id: string
  /** ISO, to the minute. */
  slot: string
  run_id: string
  thread_id: string
  status: string
  metadata: Record<string, unknown>
  kwargs: Record<string, unknown>
}

export interface CronParts {
  readonly db: Database
  /** What the one graph, `g`, says of itself; a test may give it an error. */
  readonly graph: GraphStatus
  readonly assistantId: string
  readonly seen: Observation[]
  /** The fake clock: what is due is decided by it. */
  set(now: string): Promise<void>
  /** Has all schedulers fire at once. */
  fire(): Promise<void>
  /** One of the schedulers, with changes. */
  scheduler(changes?: Partial<FireDeps>): FireDeps
  /** Makes a cron as of the fake clock. */
  cron(of: Partial<crons.CronRow> & { schedule: string }): Promise<string>
  get(cronId: string): Promise<crons.CronRow>
  /** The runs of a cron, in the order of their slots. */
  runs(cronId: string): Promise<FiredRun[]>
  close(): Promise<void>
}

export const minute = (time: string): string => new Date(time).toISOString().replace(':00.000Z', 'Z')

export async function createCronParts(schedulers: number): Promise<CronParts> {
  const database = await createDatabase()
  const seen: Observation[] = []
  const observe = (observation: Observation) => void seen.push(observation)
  const open = () => openDatabase({ uri: database.uri, poolSize: 3 }, observe)
  const handles = await Promise.all(Array.from({ length: schedulers }, open))
  const db = handles[0] as Database
  await db.rows(sql`create table fake_clock as select clock_timestamp() as now`)
  const clock: Sql = sql`(select now from fake_clock)`
  const graph: GraphStatus = { graph_id: 'g', description: null }
  const registry = createRegistry({ executor: { graphs: () => [graph] } })
  await ensureAssistants(db, [graph])
  const bus = createMemoryBus()
  const each = handles.map(
    (handle): FireDeps => ({ db: handle, bus, observe, registry, durability: 'async', known: new Map(), clock }),
  )
  const now = () => crons.now(db, clock)
  return {
    db,
    graph,
    assistantId: defaultAssistantId('g'),
    seen,
    set: async (time) => void (await db.rows(sql`update fake_clock set now = ${time}::timestamptz`)),
    fire: async () => void (await Promise.all(each.map(fireDue))),
    scheduler: (changes = {}) => ({ ...(each[0] as FireDeps), ...changes }),
    async cron(of) {
      const { timezone = null, thread_id = null, enabled = true } = of
      const next = enabled ? parseSchedule(of.schedule, timezone).next(Date.parse(await now())) : undefined
      const made = await crons.insert(db, {
        cron_id: v7(),
        assistant_id: defaultAssistantId('g'),
        end_time: null,
        payload: {},
        metadata: {},
        on_run_completed: thread_id === null ? 'delete' : null,
        next_run_date: next === undefined ? null : new Date(next).toISOString(),
        ...of,
        timezone,
        thread_id,
        enabled,
      })
      return made.cron_id
    },
    get: (cronId) => crons.get(db, cronId, sql`true`),
    async runs(cronId) {
      const rows = await db.rows<FiredRun>(sql`
        select c.cron_id, c.slot, r.run_id, r.thread_id, r.status, r.metadata, r.kwargs
        from cron_runs c join runs r using (run_id) where c.cron_id = ${cronId}::uuid order by c.slot`)
      return rows.map((row) => ({ ...row, slot: minute(row.slot) }))
    },
    async close() {
      await bus.close()
      await Promise.all(handles.map((handle) => handle.close()))
      await database.drop()
    },
  }
}
