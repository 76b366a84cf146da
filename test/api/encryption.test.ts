// Encryption at rest: with LANGGRAPH_AES_KEY everything answers as without it, the database can be read by nobody, and what was
// put in another's place, changed or never encrypted is refused.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { v7 } from 'uuid'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { type AesKeys, parseAesKeys } from '../../src/aes-keys.ts'
import { defaultServerConfig } from '../../src/config.ts'
import type { Database } from '../../src/db/db.ts'
import { encryptAll } from '../../src/db/encryption.ts'
import * as events from '../../src/db/events.ts'
import { type DatabaseSettings, openDatabase } from '../../src/db/open.ts'
import * as queue from '../../src/db/queue.ts'
import { type Sql, sql } from '../../src/db/sql.ts'
import { ConfigError } from '../../src/errors.ts'
import { lastBatch } from '../../src/runs/log.ts'
import { createDatabase } from '../support/databases.ts'
import { readEvents } from '../support/events.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startServer, type TestServer } from '../support/stacks.ts'

// Databases on disk are made and opened many times.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 })

/** Long enough for what tasks write of it to be stored as taken from values. */
const WORD = 'umbrella '.repeat(12).trim()
const named = (id: string, fill: number) => `${id}:${Buffer.alloc(32, fill).toString('base64')}`
const keys = (...list: string[]): AesKeys => parseAesKeys(list.join(','))
const OLD = named('old', 1)
const NEW = named('new', 2)

const homes = {
  'the embedded database': async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'heddle-sealed-'))
    return { settings: { dataDir }, remove: async () => rmSync(dataDir, { recursive: true, force: true }) }
  },
  Postgres: async () => {
    const database = await createDatabase()
    return { settings: { uri: database.uri }, remove: database.drop }
  },
}

/** What a thread shows to its clients. */
async function shown({ client, request }: TestServer, threadId: string) {
  const [state, history, thread, runs] = await Promise.all([
    client.threads.getState(threadId),
    client.threads.getHistory(threadId, { limit: 50 }),
    client.threads.get(threadId),
    client.runs.list(threadId),
  ])
  const [run] = runs
  const log = run
    ? await readEvents(
        await request('GET', `/threads/${threadId}/runs/${run.run_id}/stream`, undefined, { 'last-event-id': '-1' }),
      ).rest()
    : []
  return { state, history, thread, runs, log }
}

describe.each(Object.keys(homes) as (keyof typeof homes)[])('on %s', (name) => {
  const ends: (() => Promise<void>)[] = []
  let receiver: Receiver
  beforeAll(async () => {
    receiver = await startReceiver()
  })
  afterAll(() => receiver.close())
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end()
  })
  const home = async (): Promise<DatabaseSettings> => {
    const { settings, remove } = await homes[name]()
    ends.push(remove)
    return settings
  }
  const serve = async (database: DatabaseSettings, aesKeys?: AesKeys): Promise<TestServer> => {
    const { graphs } = createRunGraphs()
    const webhooks = { ...defaultServerConfig.webhooks, allowPrivate: true }
    const server = await startServer({ graphs, database, config: { webhooks, ...(aesKeys && { aesKeys }) } })
    ends.push(() => server.close())
    return server
  }
  const look = async <T>(database: DatabaseSettings, work: (db: Database) => Promise<T>, aesKeys?: AesKeys) => {
    const db = await openDatabase('uri' in database ? { ...database, poolSize: 1 } : database, () => {}, aesKeys)
    try {
      return await work(db)
    } finally {
      await db.close()
    }
  }
  /** The tables in whose rows the word stands, in text or in bytes. */
  const holders = (database: DatabaseSettings) =>
    look(database, async (db) => {
      const tables: Record<string, Sql> = {
        assistants: sql`assistants`,
        threads: sql`threads`,
        runs: sql`runs`,
        events: sql`events`,
        checkpoints: sql`checkpoints`,
        checkpoint_values: sql`checkpoint_values`,
        checkpoint_writes: sql`checkpoint_writes`,
        webhook_deliveries: sql`webhook_deliveries`,
        idempotency_keys: sql`idempotency_keys`,
        store_items: sql`store_items`,
      }
      const found: string[] = []
      for (const [name, table] of Object.entries(tables)) {
        const rows = await db.rows<{ text: string }>(sql`select to_json(t)::text as text from ${table} t`)
        const hex = Buffer.from(WORD).toString('hex')
        if (rows.some(({ text }) => text.includes(WORD) || text.includes(hex))) found.push(name)
      }
      return found
    })

  /** Threads with the word in everything that threads can hold. */
  async function live({ client, request }: TestServer) {
    const create = async () => (await client.threads.create()).thread_id
    const [steps, asking, answered, talked] = [await create(), await create(), await create(), await create()]
    for (let turn = 0; turn < 3; turn++) await client.runs.wait(steps, 'steps', { input: { log: [`${WORD} ${turn}`] } })
    await client.threads.updateState(steps, { values: { log: [`${WORD} by hand`] } })
    await client.runs.wait(asking, 'approve', { input: { topic: WORD } })
    await client.runs.wait(answered, 'approve', { input: { topic: WORD } })
    await client.runs.wait(answered, 'approve', { command: { resume: { said: WORD } } })
    await client.runs.wait(talked, 'talk', { input: { messages: [{ role: 'user', content: WORD }] } })
    const failed = { input: { log: [WORD], fail: { third: 'function' } } }
    await client.runs.wait(await create(), 'steps', { ...failed, raiseError: false })
    await client.runs.create(await create(), 'steps', {
      input: { log: [WORD] },
      context: { WORD },
      afterSeconds: 9_999,
    })
    const told = receiver.received.length
    await client.runs.wait(await create(), 'steps', { input: { log: [WORD] }, webhook: `${receiver.url}/told` })
    const [one] = (await receiver.came('/told', told + 1)).slice(told)
    expect(one?.body).toMatchObject({
      status: 'success',
      kwargs: { input: { log: [WORD] } },
      values: { log: [WORD, 'first', 'second', 'third'] },
    })
    await request('POST', '/runs/wait', { assistant_id: 'steps', input: { log: [WORD] }, on_completion: 'keep' })
    return { steps, asking, answered, talked, copied: (await client.threads.copy(steps)).thread_id }
  }

  test('nothing that threads hold can be read in the database, and all of it over the API', async () => {
    const [plain, sealed] = [await home(), await home()]
    const openly = await serve(plain)
    await live(openly)
    await openly.close()
    expect(await holders(plain)).toEqual([
      'threads',
      'runs',
      'events',
      'checkpoint_values',
      'checkpoint_writes',
      'webhook_deliveries',
    ])

    const server = await serve(sealed, keys(NEW))
    const { steps, asking, answered, talked, copied } = await live(server)
    const said = ['first', 'second', 'third']
    const log = [0, 1, 2].flatMap((turn) => [`${WORD} ${turn}`, ...said])
    const before = await shown(server, steps)
    expect(before.state.values).toMatchObject({ log: [...log, `${WORD} by hand`] })
    expect(before.thread.values).toEqual(before.state.values)
    expect(before.history.length).toBe(16)
    expect(before.runs.map((run) => (run as unknown as { kwargs: { input: unknown } }).kwargs.input)).toEqual(
      [2, 1, 0].map((turn) => ({ log: [`${WORD} ${turn}`] })),
    )
    expect(before.log.map(({ event }) => event)).toEqual(['metadata', 'values', 'values', 'values', 'values', 'end'])
    expect(before.log.at(-2)?.data).toEqual({ log })
    expect((await server.client.threads.get(asking)).interrupts).toMatchObject({
      [Object.keys((await server.client.threads.get(asking)).interrupts)[0] as string]: [{ value: { approve: WORD } }],
    })
    const done = `asked ${WORD}: {"said":"${WORD}"}`
    expect((await server.client.threads.getState(answered)).values).toMatchObject({ log: [done, 'acted'] })
    expect(JSON.stringify((await server.client.threads.getState(talked)).values)).toContain(WORD)
    const copy = await shown(server, copied)
    expect(copy.state.values).toEqual(before.state.values)
    expect(copy.thread.values).toEqual(before.thread.values)
    expect(copy.history.map(({ values }) => values)).toEqual(before.history.map(({ values }) => values))
    // The copy goes on by itself.
    const on = await server.client.runs.wait(copied, 'steps', { input: { log: ['on'] } })
    expect((on as { log: string[] }).log.slice(-4)).toEqual(['on', ...said])
    const found = await server.client.threads.search({ ids: [steps], select: ['values'] })
    expect(found).toEqual([{ values: before.thread.values }])
    await server.close()
    expect(await holders(sealed)).toEqual([])

    // And another server reads the same.
    expect(await shown(await serve(sealed, keys(NEW)), steps)).toEqual(before)
  })

  test('a run that answered and is rolled back leaves the question as it was', async () => {
    const { graphs, gates } = createRunGraphs()
    const server = await startServer({ graphs, database: await home(), config: { aesKeys: keys(NEW) } })
    ends.push(() => server.close())
    const { client } = server
    const { thread_id } = await client.threads.create()
    await client.runs.wait(thread_id, 'pause', { input: {} })
    const asked = await client.threads.getState(thread_id)
    const ids = asked.tasks.map(({ interrupts }) => interrupts[0]?.id as string)
    expect(ids.length).toBe(2)
    const resume = Object.fromEntries(ids.map((id, i) => [id, `gate ${i}`]))
    const run = await client.runs.create(thread_id, 'pause', { command: { resume } })
    await gates.reached('gate 0')
    await client.runs.cancel(thread_id, run.run_id, true, 'rollback')
    gates.open('gate 0')
    gates.open('gate 1')
    expect(await client.threads.getState(thread_id)).toEqual(asked)
  })

  test('a value in the place of another, or one that was changed, is refused by name', async () => {
    const database = await home()
    let server = await serve(database, keys(NEW))
    const { steps, copied, asking, answered, talked } = await live(server)
    const change = async (statement: Sql) => {
      await server.close()
      expect((await look(database, (db) => db.rows(statement))).length).toBeGreaterThan(0)
      server = await serve(database, keys(NEW))
    }
    const refused = async (path: string) => {
      const answer = await server.request('GET', path)
      return [answer.status, ((await answer.json()) as { code: string }).code]
    }
    await change(sql`update checkpoint_values v set bytes = o.bytes from checkpoint_values o
      where v.thread_id = ${copied}::uuid and o.thread_id = ${steps}::uuid and o.channel = v.channel
        and o.version = v.version returning 1`)
    expect(await refused(`/threads/${copied}/state`)).toEqual([500, 'cannot_decrypt'])
    expect((await server.client.threads.getState(steps)).values).toHaveProperty('log')
    await change(sql`update threads set "values" = (select "values" from threads where thread_id = ${steps}::uuid)
      where thread_id = ${copied}::uuid returning 1`)
    expect(await refused(`/threads/${copied}`)).toEqual([500, 'cannot_decrypt'])
    await change(
      sql`update threads set interrupts = '{"a":[{"value":"mine"}]}' where thread_id = ${asking}::uuid returning 1`,
    )
    expect(await refused(`/threads/${asking}`)).toEqual([500, 'cannot_decrypt'])
    await change(sql`update checkpoint_writes w set bytes = set_byte(bytes, 50, 255 - get_byte(bytes, 50))
      where thread_id = ${answered}::uuid returning 1`)
    expect(await refused(`/threads/${answered}/state`)).toEqual([200, undefined])
    expect(await refused(`/threads/${answered}/history?limit=10`)).toEqual([500, 'cannot_decrypt'])
    // Taken from another value than it was.
    await change(sql`update checkpoint_writes w set source = (select max(v.version) from checkpoint_values v
        where v.thread_id = w.thread_id and v.channel = w.channel and v.version <> w.source)
      where thread_id = ${talked}::uuid and source is not null returning 1`)
    expect(await refused(`/threads/${talked}/state`)).toEqual([200, undefined])
    expect(await refused(`/threads/${talked}/history?limit=10`)).toEqual([500, 'cannot_decrypt'])
    await change(sql`update runs set kwargs = (select kwargs from runs where run_id <> r.run_id limit 1)
      from runs r where runs.run_id = r.run_id and r.thread_id = ${answered}::uuid returning 1`)
    expect(await refused(`/threads/${answered}/runs`)).toEqual([500, 'cannot_decrypt'])
    // What was not touched is read.
    expect((await shown(server, steps)).log.length).toBe(6)
  })

  test('values are not searched by what they hold', async () => {
    const server = await serve(await home(), keys(NEW))
    const refused = async (path: string, body: unknown) => {
      const answer = await server.request('POST', path, body)
      return [answer.status, ((await answer.json()) as { code: string; detail: string }).detail]
    }
    const words = expect.stringContaining('are encrypted on this server')
    expect(await refused('/threads/search', { values: { a: 1 } })).toEqual([422, words])
    expect(await refused('/threads/search', { extract: { a: 'values.a' } })).toEqual([422, words])
    expect(await refused('/threads/count', { values: { a: 1 } })).toEqual([422, words])
  })

  test('the settings must be those of the database, and the start says what to do', async () => {
    const start = async (database: DatabaseSettings, aesKeys?: AesKeys) => {
      try {
        await (await serve(database, aesKeys)).close()
        return 'started'
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError)
        return (error as Error).message
      }
    }
    const [plain, sealed] = [await home(), await home()]
    const server = await serve(plain)
    await live(server)
    await server.close()
    expect(await start(plain, keys(NEW))).toContain('run heddle encrypt once')
    expect(await start(sealed, keys(OLD))).toBe('started')
    expect(await start(sealed)).toContain('set LANGGRAPH_AES_KEY')
    expect(await start(sealed, keys(NEW))).toContain('a key that LANGGRAPH_AES_KEY does not hold')
    expect(await start(sealed, keys(NEW, OLD))).toBe('started')
  })

  test('encryption can begin later, and keys can be exchanged', async () => {
    const database = await home()
    const encrypt = async (aesKeys: AesKeys) => {
      const rows: Record<string, number> = {}
      await look(
        database,
        (db) =>
          encryptAll(db, (table, count) => {
            rows[table] = (rows[table] ?? 0) + count
          }),
        aesKeys,
      )
      return rows
    }
    const openly = await serve(database)
    const { steps } = await live(openly)
    const before = await shown(openly, steps)
    await openly.close()
    await expect(look(database, (db) => encryptAll(db, () => {}))).rejects.toThrow('heddle encrypt needs a key')
    const first = await encrypt(keys(OLD))
    expect(Object.keys(first).sort()).toEqual([
      'checkpoint_values',
      'checkpoint_writes',
      'events',
      'runs',
      'threads',
      'webhook_deliveries',
    ])
    expect(await holders(database)).toEqual([])
    const sealed = await serve(database, keys(OLD))
    expect(await shown(sealed, steps)).toEqual(before)
    await sealed.close()

    const both = await serve(database, keys(NEW, OLD))
    expect(await shown(both, steps)).toEqual(before)
    await both.client.runs.wait(steps, 'steps', { input: { log: [WORD] } })
    const after = await shown(both, steps)
    await both.close()
    await expect(serve(database, keys(NEW))).rejects.toThrow('does not hold')
    const again = await encrypt(keys(NEW, OLD))
    // All but what the new key wrote.
    expect(again.runs).toBe(first.runs)
    expect(await encrypt(keys(NEW, OLD))).toEqual({})
    expect(await shown(await serve(database, keys(NEW)), steps)).toEqual(after)
  })

  test('the end that is written for a run whose worker died can be read', async () => {
    const database = await home()
    const aesKeys = keys(NEW)
    const server = await serve(database, aesKeys)
    const { thread_id } = await server.client.threads.create()
    await server.client.runs.wait(thread_id, 'steps', { input: { log: [] } })
    const { run_id } = await server.client.runs.create(thread_id, 'steps', {
      input: { log: [WORD] },
      afterSeconds: 9_999,
    })
    await server.close()
    const error = { error: 'WorkerDied', message: 'gone' }
    await look(
      database,
      async (db) => {
        await db.rows(sql`update runs set available_at = clock_timestamp() where run_id = ${run_id}::uuid`)
        const [claimed] = await queue.claim(db, v7(), 1, ['steps'])
        expect(claimed?.kwargs.input).toEqual({ log: [WORD] })
        await db.tx((tx) =>
          queue.end(tx, run_id, { status: 'error', error, reason: null, doom: false, last: lastBatch('error', error) }),
        )
        const { batches } = await events.after(db, thread_id, claimed?.last_seq as number)
        expect(batches.map(({ batch }) => batch)).toEqual([lastBatch('error', error).batch])
      },
      aesKeys,
    )
  })
})
