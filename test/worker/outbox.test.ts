// The outbox on a Postgres server: who delivers what, how many at once, and what is left when nobody is there to say how it went.

import { v7 } from 'uuid'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { defaultServerConfig } from '../../src/config.ts'
import type { Database } from '../../src/db/db.ts'
import * as journal from '../../src/db/journal.ts'
import * as newRuns from '../../src/db/new-runs.ts'
import { openDatabase } from '../../src/db/open.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as webhooks from '../../src/db/webhooks.ts'
import { type Observation, silent } from '../../src/observe.ts'
import { createOutbox, type Outbox } from '../../src/worker/outbox.ts'
import { createPost, type Post } from '../../src/worker/webhook-post.ts'
import { createDatabase } from '../support/databases.ts'
import { newRun } from '../support/new-run.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'

let db: Database
beforeAll(async () => {
  const database = await createDatabase()
  db = await openDatabase({ uri: database.uri, poolSize: 4 }, silent)
  return async () => {
    await db.close()
    await database.drop()
  }
})
const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  await db.rows(sql`delete from webhook_deliveries`)
})

const receive = async (): Promise<Receiver> => {
  const receiver = await startReceiver()
  closing.push(receiver.close)
  return receiver
}
const begin = (timeoutMs = 60_000, allowPrivate = true): Outbox & { seen: Observation[] } => {
  const seen: Observation[] = []
  const outbox = createOutbox(
    { db, post: createPost({ allowPrivate: true, timeoutMs }), observe: (one) => seen.push(one), random: () => 0 },
    { webhooks: { ...defaultServerConfig.webhooks, allowPrivate }, version: '1', pollMs: 50 },
  )
  outbox.start()
  closing.push(() => outbox.stop(0))
  return { ...outbox, seen }
}
/** Deliveries that are due, as ended runs leave them. */
const owe = async (url: string, count: number, body = '{"a":1}'): Promise<string[]> => {
  const rows = await db.rows<{ delivery_id: string }>(sql`insert into webhook_deliveries
      (delivery_id, run_id, thread_id, thread_metadata, url, body)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{"owner": "a"}', ${url}, ${body}
    from generate_series(1, ${count}::int) returning delivery_id`)
  return rows.map(({ delivery_id }) => delivery_id)
}
const count = async (condition = sql`true`): Promise<number> =>
  (await db.rows<{ n: number }>(sql`select count(*) as n from webhook_deliveries where ${condition}`))[0]?.n as number
const room = (more: Partial<webhooks.Room> = {}): webhooks.Room => ({
  ...{ deliveries: 100, bytes: 1_000_000, perHost: 16, hosts: new Map() },
  ...more,
})
const made = { status: 'delivered', in_seconds: 0, last_status: 204, last_error: null } as const

test('however many look at once, each delivery is made once', async () => {
  const receiver = await receive()
  const ids = await owe(`${receiver.url}/x`, 300)
  for (let i = 0; i < 4; i++) begin()
  await until('all are delivered', async () => (await count(sql`status = 'delivered'`)) === 300)
  expect(receiver.received.map(({ headers }) => String(headers['webhook-id'])).toSorted()).toEqual(ids.toSorted())
  expect(await count(sql`attempts = 1 and claim is null and ended_at is not null`)).toBe(300)
})

test('what is for the custom app waits for a process that has it, and holds up nothing', async () => {
  const receiver = await receive()
  await owe('app:///hooks/done/x', 200)
  await owe(`${receiver.url}/x`, 200)
  const outbox = begin()
  await receiver.came('/x', 200)
  expect(await count(sql`host = '' and status = 'pending' and attempts = 0`)).toBe(200)
  await outbox.stop(0)
  const asked: string[] = []
  const post: Post = async ({ url }) => {
    asked.push(url)
    return { status: 204, retryAfter: undefined }
  }
  const options = { webhooks: { ...defaultServerConfig.webhooks, toApp: 'allowed' }, version: '1', pollMs: 50 } as const
  const other = createOutbox({ db, post, observe: silent }, options)
  other.start()
  closing.push(() => other.stop(0))
  await until('all are delivered', async () => (await count(sql`status = 'delivered'`)) === 400)
  expect(asked).toEqual(Array(200).fill('/hooks/done/x'))
})

test('a receiver that hangs gets its share and holds up nobody, and stopping gives back what it holds', async () => {
  const [hanging, healthy] = [await receive(), await receive()]
  hanging.on('/x', () => {})
  await owe(`${hanging.url}/x`, 200)
  await owe(`${healthy.url}/x`, 300)
  const outbox = begin()
  await healthy.came('/x', 300)
  await hanging.came('/x', 16)
  expect(await count(sql`claim is not null and host like ${`%:${hanging.port}`}`)).toBe(16)
  await outbox.stop(0)
  expect(hanging.received).toHaveLength(16)
  expect(await count(sql`status = 'pending' and attempts = 0 and claim is null and due_at <= now()`)).toBe(200)
})

test('a host that failed slowly gets one try at a time, until it answers', async () => {
  const receiver = await receive()
  let [open, most] = [0, 0]
  receiver.on('/x', (response) => {
    most = Math.max(most, ++open)
    response.on('close', () => open--)
  })
  await owe(`${receiver.url}/x`, 40)
  begin(1_100)
  await until('the first ones have failed', async () => (await count(sql`last_error is not null`)) >= 16)
  expect(most).toBe(16)
  most = open
  await receiver.came('/x', 18)
  expect(most).toBe(1)
  receiver.on('/x', (response) => response.writeHead(204).end())
  await until('all others are delivered', async () => (await count(sql`status = 'delivered'`)) >= 22)
  expect(await count(sql`status = 'pending' and attempts = 0`)).toBe(0)
})

test('what a process claimed and did not record is due again when its lease has ended, and then its word counts no more', async () => {
  const receiver = await receive()
  const [delivery_id = ''] = await owe(`${receiver.url}/x`, 1)
  const lost = v7()
  expect(await webhooks.claim(db, lost, 30, room())).toMatchObject([
    { delivery_id, attempts: 1, body: '{"a":1}', size: 7 },
  ])
  expect(await webhooks.claim(db, v7(), 30, room())).toEqual([])
  const [{ lease } = { lease: 0 }] = await db.rows<{ lease: number }>(
    sql`select extract(epoch from due_at - last_attempt_at)::float8 as lease from webhook_deliveries`,
  )
  expect(lease).toBeCloseTo(30, 1)
  await db.rows(sql`update webhook_deliveries set due_at = now()`)
  const [again] = await webhooks.claim(db, v7(), 30, room())
  expect(again?.attempts).toBe(2)
  await webhooks.tried(db, { delivery_id, claim: lost }, made)
  await webhooks.release(db, { delivery_id, claim: lost })
  expect(await count(sql`status = 'pending' and attempts = 2 and claim is not null`)).toBe(1)
  await db.rows(sql`update webhook_deliveries set due_at = now()`)
  begin()
  const [came] = await receiver.came('/x')
  expect(came?.headers['webhook-id']).toBe(delivery_id)
})

test('a replay while a try is under way counts: what becomes of that try does not', async () => {
  const [delivery_id = ''] = await owe('http://a.example/', 1)
  const claim = v7()
  await webhooks.claim(db, claim, 30, room())
  expect(await webhooks.replay(db, delivery_id, all)).toMatchObject({ status: 'pending', attempts: 0 })
  await webhooks.tried(db, { delivery_id, claim }, made)
  expect(await webhooks.claim(db, v7(), 30, room())).toMatchObject([{ delivery_id, attempts: 1 }])
})

test('hosts are served in turn, a large backlog of one is not looked through, and bodies are bounded', async () => {
  await owe('http://a.example/', 3_000)
  await owe('http://b.example/', 2)
  await owe('http://c.example:81/', 2)
  const hostsOf = async (more: Partial<webhooks.Room>) => {
    const claimed = await webhooks.claim(db, v7(), 30, room(more))
    await db.rows(sql`update webhook_deliveries set claim = null, due_at = created_at where claim is not null`)
    return claimed.map(({ host }) => host).toSorted()
  }
  expect(await hostsOf({ deliveries: 3 })).toEqual(['a.example', 'b.example', 'c.example:81'])
  expect(await hostsOf({ perHost: 4 })).toEqual([
    ...Array.from({ length: 4 }, () => 'a.example'),
    ...['b.example', 'b.example', 'c.example:81', 'c.example:81'],
  ])
  const busy = new Map([
    ['a.example', 0],
    ['b.example', 1],
  ])
  expect(await hostsOf({ hosts: busy })).toEqual(['b.example', 'c.example:81', 'c.example:81'])
  expect(await hostsOf({ bytes: 15 })).toHaveLength(3)
  expect(await hostsOf({ bytes: 1 })).toHaveLength(1)
  await db.rows(sql`analyze webhook_deliveries`)
  const text = webhooks.claimQuery(v7(), 30, room())
  const plan = await db.rows<{ 'QUERY PLAN': string }>(sql`explain (analyze, timing off, summary off) ${text}`)
  const rows = plan.flatMap((line) => [...line['QUERY PLAN'].matchAll(/actual rows=(\d+)/g)].map(([, n]) => Number(n)))
  expect(Math.max(...rows)).toBeLessThan(100)
})

test('what may be called is asked again at each try, and what may not is given up', async () => {
  const receiver = await receive()
  await owe(`${receiver.url}/x`, 1)
  begin(60_000, false)
  await until('it is given up', async () => (await count(sql`status = 'failed'`)) === 1)
  expect(
    await count(sql`attempts = 1 and last_error like 'The URL must not be an address of a private network%'`),
  ).toBe(1)
  expect(receiver.received).toEqual([])
})

test('who could see the thread sees its deliveries, though the thread is gone, and nobody else does', async () => {
  const [delivery_id = ''] = await owe('http://a.example/', 1)
  const [{ run_id } = { run_id: '' }] = await db.rows<{ run_id: string }>(sql`select run_id from webhook_deliveries`)
  const [own, other] = [sql`metadata @> '{"owner": "a"}'`, sql`threads.metadata @> '{"owner": "b"}'`]
  expect(await webhooks.list(db, run_id, own)).toMatchObject([{ delivery_id, run_id, status: 'pending' }])
  expect(await webhooks.list(db, run_id, other)).toEqual([])
  expect(await webhooks.replay(db, delivery_id, other)).toBeUndefined()
  expect(await webhooks.replay(db, delivery_id, own)).toMatchObject({ delivery_id })
})

test('deliveries that ended are forgotten after their time, those that wait never', async () => {
  await owe('http://a.example/', 3)
  const claim = v7()
  const [first, second] = await webhooks.claim(db, claim, 30, room())
  for (const of of [first, second]) await webhooks.tried(db, { delivery_id: String(of?.delivery_id), claim }, made)
  await db.rows(
    sql`update webhook_deliveries set created_at = now() - interval '1 year', due_at = now() - interval '1 year'`,
  )
  await db.rows(
    sql`update webhook_deliveries set ended_at = now() - interval '2 hours' where delivery_id = ${first?.delivery_id}`,
  )
  expect(await webhooks.prune(db, 3_600, 100)).toBe(1)
  expect(await count()).toBe(2)
})

/** A run that is running, and names the webhook. */
async function runWith(
  webhook: string,
): Promise<{ run_id: string; ends: (epoch: number) => journal.Entry; epoch: number }> {
  const run = newRun({ kwargs: { webhook }, worker_id: v7() })
  const { run_id, thread_id } = run
  const inserted = await newRuns.insertWithThread(db, run)
  const ends = (epoch: number): journal.Entry => ({
    ...{ thread_id, run_id, epoch, events: undefined, puts: [], writes: [] },
    settle: {
      ...{ status: 'success', error: null, values: '{"said": true}', interrupts: {}, settled_status: 'idle' },
      ...{ last_seq: 0, doom: false, webhook: true },
    },
  })
  return { run_id, ends, epoch: inserted?.epoch as number }
}

test('a run owes one delivery, whoever says that it ended and how often; one that is no longer held owes none', async () => {
  const { run_id, ends, epoch } = await runWith('http://a.example/')
  await journal.commit(db, [ends(epoch - 1)])
  expect(await count()).toBe(0)
  for (let i = 0; i < 2; i++) await journal.commit(db, [ends(epoch)])
  expect(await webhooks.list(db, run_id, sql`metadata @> '{"graph_id": "g"}'`)).toMatchObject([
    { url: 'http://a.example/' },
  ])
  const [claimed] = await webhooks.claim(db, v7(), 30, room())
  expect(JSON.parse(String(claimed?.body))).toMatchObject({ run_id, status: 'success', values: { said: true } })
})

test('what is for the custom app is no host, whatever its path says', async () => {
  const { run_id, ends, epoch } = await runWith('/a.example/x?b=1')
  await journal.commit(db, [ends(epoch)])
  expect(await webhooks.list(db, run_id, all)).toMatchObject([{ url: '/a.example/x?b=1' }])
  expect(await webhooks.claim(db, v7(), 30, room({ hosts: new Map([[webhooks.APP_HOST, 0]]) }))).toEqual([])
  const claimed = await webhooks.claim(db, v7(), 30, room())
  expect(claimed).toMatchObject([{ run_id, url: '/a.example/x?b=1', host: webhooks.APP_HOST }])
})
