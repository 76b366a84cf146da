// A client that does not give up: it asks again with its key until it is answered with something else than an outage. In charge
// of that, and of what must be true afterwards.

import { v7 } from 'uuid'
import { expect } from 'vitest'
import type { SeenEvent } from '../../support/events.ts'
import type { TestServer } from '../../support/stacks.ts'
import { until } from '../../support/until.ts'
import { joinOn, type Stage, settlements } from './stage.ts'

export interface Run {
  run_id: string
  thread_id: string
}

/** Asks until it is answered with something else than an outage, as a client that keeps its key may. */
export async function insist(server: TestServer, path: string, body: object): Promise<Response> {
  const key = v7()
  return until('it is accepted', async () => {
    const answer = await server.request('POST', path, body, { 'idempotency-key': key })
    if (answer.status !== 503) return answer
    expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
    return undefined
  })
}

export async function start(server: TestServer, threadId: string, more: object = {}): Promise<Run> {
  const body = { assistant_id: 'steps', input: { log: ['in'], ...more }, stream_mode: 'updates' }
  const answer = await insist(server, `/threads/${threadId}/runs`, body)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Run
}

/** The run's whole log, read past all faults. */
export async function eventsOf(server: TestServer, run: Run): Promise<SeenEvent[]> {
  const events = await (await joinOn(server, run, '-1')).rest()
  const ids = events.map(({ id }) => Number(id))
  const end = ids.pop()
  expect(ids).toEqual(ids.toSorted((a, b) => a - b))
  expect(new Set(ids).size).toBe(ids.length)
  expect(end).toBeGreaterThanOrEqual(ids.at(-1) ?? 0)
  return events
}

/** Every accepted run ended well and once, ran no committed node twice, and its log tells each step once; `mayMiss` where it
 *  may leave one out. */
export async function allWell(
  stage: Stage,
  servers: readonly TestServer[],
  runs: readonly Run[],
  mayMiss = false,
): Promise<void> {
  const [{ client }] = servers as [TestServer]
  for (const run of runs) {
    const values = await until('the database is back', () =>
      client.runs.join(run.thread_id, run.run_id).catch((error: { status?: number }) => {
        if (error.status !== 503) throw error
        return undefined
      }),
    )
    expect(values).toMatchObject({ log: ['in', 'first', 'second', 'third'] })
    expect((await client.runs.get(run.thread_id, run.run_id)).status).toBe('success')
    expect(settlements(servers, run.run_id).length).toBeLessThanOrEqual(1)
    const told = (await eventsOf(servers[0] as TestServer, run)).flatMap(({ event, data }) =>
      event === 'updates' ? Object.keys(data) : [],
    )
    // A node whose writes were committed right before a crash is not run again, so what it would have streamed may be missing.
    if (mayMiss) expect(['first', 'second', 'third']).toEqual(expect.arrayContaining(told))
    else expect(told.toSorted()).toEqual(['first', 'second', 'third'])
    expect(new Set(told).size).toBe(told.length)
  }
  const rows = await stage.query<{ run_id: string }>('select run_id from runs')
  expect(rows.map(({ run_id }) => run_id).toSorted()).toEqual(runs.map(({ run_id }) => run_id).toSorted())
  expect(await stage.query('select 1 from threads where held_by is not null')).toEqual([])
}
