// How lists are stored: whatever was appended, edited, forked, rolled back and pruned, every checkpoint reads as it was, and
// what only grew takes the place of what was added.

import { type BaseMessage, HumanMessage, RemoveMessage } from '@langchain/core/messages'
import { emptyCheckpoint, uuid6 } from '@langchain/langgraph-checkpoint'
import fc from 'fast-check'
import { v5, v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as checkpoints from '../../src/db/checkpoints.ts'
import type { Database, Db } from '../../src/db/db.ts'
import * as retention from '../../src/db/retention.ts'
import { all, sql } from '../../src/db/sql.ts'
import { createCodec } from '../../src/executor/codec.ts'
import { createLangChainLoader } from '../../src/executor/langchain.ts'
import { followLatest } from '../../src/executor/latest.ts'
import { createSaver } from '../../src/executor/saver.ts'
import type { StoredCheckpoint } from '../../src/executor/stored.ts'
import { createStorage } from '../../src/graph/storage.ts'
import { kinds, openEmpty } from '../support/databases.ts'

/** A stored checkpoint with its bytes as text. */
const plainly = (stored: StoredCheckpoint | null) =>
  JSON.parse(
    JSON.stringify(stored, (_, value) => {
      const bytes = value?.type === 'Buffer' ? Buffer.from(value.data) : value
      return bytes instanceof Uint8Array ? Buffer.from(bytes).toString() : bytes
    }),
  )

type Item = { n: number; deep: { tags: string[] } } | BaseMessage

/** One thread, written by one saver after another as by runs, with what each checkpoint must read as. */
async function openThread(db: Database) {
  const thread_id = v7()
  await db.rows(sql`insert into threads (thread_id, metadata) values (${thread_id}, '{}')`)
  const langchain = await createLangChainLoader()()
  const codec = createCodec(langchain)
  const storage = createStorage({ db, store: { batch: async () => [] }, flushed: () => Promise.resolve() })
  const expected = new Map<string, { text: string; run: string }>()
  const print = (items: unknown) => Buffer.from(codec.encode(items, 'test').bytes).toString()
  let step = 0
  const asked: string[] = []
  const counted = {
    'checkpoint.get': (which: Parameters<(typeof storage)['checkpoint.get']>[0]) => {
      asked.push('get')
      return storage['checkpoint.get'](which)
    },
    'checkpoint.list': (which: Parameters<(typeof storage)['checkpoint.list']>[0]) => {
      asked.push('list')
      return storage['checkpoint.list'](which)
    },
  }
  /** What the executor that ran last remembers. */
  let remembered: StoredCheckpoint | undefined
  const saverOf = (run_id: string, latest = followLatest(undefined)) =>
    createSaver({
      langchain,
      codec,
      storage: latest.storage(counted),
      sink: latest.sink({
        put: (put) => checkpoints.store(db, { puts: [put], writes: [], run_id }),
        writes: (writes) => checkpoints.store(db, { puts: [], writes: [writes], run_id }),
        settled: () => Promise.resolve(),
      }),
    }).checkpointer
  const at = (checkpoint_id?: string) => ({
    configurable: { thread_id, checkpoint_ns: '', ...(checkpoint_id !== undefined && { checkpoint_id }) },
  })

  /** A run: reads a checkpoint (the latest without one) and puts what each change makes of the list. */
  async function run(from: string | undefined, changes: readonly ((items: Item[]) => Item[])[]) {
    const run = v7()
    const latest = followLatest(remembered)
    const saver = saverOf(run, latest)
    const tuple = await saver.getTuple(at(from))
    let items = (tuple?.checkpoint.channel_values.items ?? []) as Item[]
    let version = tuple?.checkpoint.channel_versions.items as string | undefined
    let parent = tuple?.checkpoint.id
    for (const change of changes) {
      items = change(items)
      version = saver.getNextVersion(version) as string
      const id = uuid6(step++)
      const checkpoint = { ...emptyCheckpoint(), id, channel_values: { items }, channel_versions: { items: version } }
      await saver.put(at(parent), checkpoint as never, { source: 'loop', step } as never, { items: version })
      expected.set(id, { text: print(items), run })
      await saver.putWrites(at(id), [['items', items.at(-1)]], v5(`${step} task`, v5.URL))
      parent = id
    }
    // What is remembered of it is what is stored.
    const stored = await storage['checkpoint.get']({ thread_id, checkpoint_ns: '' })
    remembered = latest.stored()
    expect(remembered && plainly(remembered)).toEqual(changes.length > 0 ? plainly(stored) : undefined)
    return run
  }
  const text = async (id?: string) => {
    const found = await saverOf(v7()).getTuple(at(id))
    return found && { id: found.checkpoint.id, text: print(found.checkpoint.channel_values.items) }
  }
  return {
    thread_id,
    expected,
    asked,
    saver: () => saverOf(v7()),
    at,
    run,
    text,
    latest: () => [...expected.keys()].sort().at(-1),
    async rollBack(run: string) {
      remembered = undefined
      await checkpoints.removeOfRun(db, thread_id, run)
      for (const [id, of] of expected) if (of.run === run) expected.delete(id)
    },
    async prune() {
      const last = [...expected.keys()].sort().at(-1)
      await retention.prune(db, [thread_id], 'keep_latest', all)
      for (const id of expected.keys()) if (id !== last) expected.delete(id)
    },
    storage: () => retention.measure(db, thread_id, all),
    /** Versions that no checkpoint has, nor needs for the lists it has. */
    async unneeded() {
      const values = await db.rows<{ version: string; base: string | null }>(
        sql`select version, base from checkpoint_values where thread_id = ${thread_id}`,
      )
      const points = await db.rows<{ checkpoint: { channel_versions: Record<string, string> } }>(
        sql`select checkpoint from checkpoints where thread_id = ${thread_id}`,
      )
      const needed = new Set<string | null>(points.map(({ checkpoint }) => checkpoint.channel_versions.items as string))
      for (const version of needed) needed.add(values.find((value) => value.version === version)?.base ?? null)
      return values.filter(({ version }) => !needed.has(version))
    },
    /** What `storage` says, from the rows one by one. */
    async summed() {
      const of = async (rows: Promise<{ size: string; more?: string }[]>) => {
        const sizes = (await rows).map(({ size, more }) => Buffer.byteLength(size) + Buffer.byteLength(more ?? ''))
        return { count: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) }
      }
      const values = await of(
        db.rows(sql`select encode(bytes, 'escape') as size from checkpoint_values where thread_id = ${thread_id}`),
      )
      const points = await of(
        db.rows(
          sql`select checkpoint::text as size, metadata::text as more from checkpoints where thread_id = ${thread_id}`,
        ),
      )
      const writes = await of(
        db.rows(sql`select encode(bytes, 'escape') as size, encode(replaced_bytes, 'escape') as more
          from checkpoint_writes where thread_id = ${thread_id}`),
      )
      const items = { versions: values.count, bytes: values.bytes }
      return {
        thread_id,
        total_bytes: values.bytes + points.bytes + writes.bytes,
        checkpoints: points,
        channel_values: { ...values, by_channel: values.count > 0 ? { items } : {} },
        pending_writes: writes,
      }
    },
    async listed() {
      const found: [string, string][] = []
      for await (const tuple of saverOf(v7()).list(at()))
        found.push([tuple.checkpoint.id, print(tuple.checkpoint.channel_values.items)])
      return found
    },
  }
}

/** How many values this session's statements have fetched, as the database counts them. */
const valuesRead = async (db: Db): Promise<number> => {
  const [row] = await db.rows<{ n: number }>(sql`select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as n
    from pg_stat_xact_user_tables where relname = 'checkpoint_values'`)
  return row?.n ?? 0
}

let count = 0
const item = (): Item => {
  const n = ++count
  return n % 2 === 0 ? { n, deep: { tags: [`t${n}`] } } : new HumanMessage({ content: `said ${n}`, id: `m${n}` })
}
const append =
  (times: number) =>
  (items: Item[]): Item[] => [...items, ...Array.from({ length: times }, item)]
const touch = (one: Item | undefined): void => {
  if (one === undefined) return
  if ('deep' in one) one.deep.tags.push('touched')
  else one.additional_kwargs.touched = { n: ++count }
}

/** What a node may do to a list, right or wrong. */
const change = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 0, max: 4 }).map(append) },
  fc.nat(20).map((i) => (items: Item[]) => items.map((one, at) => (at === i ? item() : one))),
  fc.nat(20).map((i) => (items: Item[]) => items.filter((_, at) => at !== i)),
  fc.constant((items: Item[]) => [...items].reverse()),
  fc.constant((items: Item[]) => [...items, new RemoveMessage({ id: `r${++count}` })]),
  // In place, where no reducer sees it.
  fc.nat(20).map((i) => (items: Item[]) => {
    touch(items[i])
    return append(1)(items)
  }),
  fc.nat(3).map((times) => (items: Item[]) => {
    for (let i = 0; i < times; i++) items.push(item())
    return items
  }),
)
const act = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('run' as const),
      changes: fc.array(change, { minLength: 1, maxLength: 6 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fork' as const),
      at: fc.nat(),
      changes: fc.array(change, { minLength: 1, maxLength: 4 }),
    }),
  },
  fc.record({ do: fc.constant('roll_back' as const), changes: fc.array(change, { maxLength: 4 }) }),
  fc.record({ do: fc.constant('prune' as const) }),
)

describe.each(kinds)('lists on %s', (kind) => {
  let db: Database
  beforeAll(async () => {
    db = await openEmpty(kind)
  })
  afterAll(() => db.close())

  test('every checkpoint reads as it was, after any mix of runs, forks, rollbacks and prunes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 12 }), async (acts) => {
        const thread = await openThread(db)
        for (const one of acts) {
          const known = [...thread.expected.keys()]
          if (one.do === 'run') await thread.run(undefined, one.changes)
          if (one.do === 'fork') await thread.run(known[one.at % Math.max(known.length, 1)], one.changes)
          if (one.do === 'roll_back') await thread.rollBack(await thread.run(undefined, one.changes))
          if (one.do === 'prune') await thread.prune()
        }
        await retention.sweepLeftovers(db)
        expect(await thread.unneeded()).toEqual([])
        expect(await thread.storage()).toEqual(await thread.summed())
        for (const [id, { text }] of thread.expected) expect(await thread.text(id)).toEqual({ id, text })
        const newestFirst = [...thread.expected]
          .sort(([a], [b]) => (a < b ? 1 : -1))
          .map(([id, { text }]) => [id, text])
        expect(await thread.listed()).toEqual(newestFirst)
        expect((await thread.text())?.id).toBe(thread.latest())
      }),
      { numRuns: 40, timeout: 60_000 },
    )
  }, 120_000)

  test("a channel's history over 50 checkpoints is one question, and what a checkpoint has itself is none of it", async () => {
    const thread = await openThread(db)
    const saver = thread.saver()
    let version: string | undefined
    const put = async (parent: string | undefined, values: Record<string, unknown>) => {
      const id = uuid6(0)
      version = saver.getNextVersion(version) as string
      const channel_versions = Object.fromEntries(Object.keys(values).map((name) => [name, version]))
      const checkpoint = { ...emptyCheckpoint(), id, channel_values: values, channel_versions }
      await saver.put(thread.at(parent), checkpoint as never, {} as never, channel_versions as never)
      return id
    }
    let id = await put(undefined, { items: ['seed'], other: 1 })
    for (let i = 0; i < 50; i++) {
      await saver.putWrites(thread.at(id), [['items', i]] as never, `task ${i}`)
      id = await put(id, i === 49 ? { items: ['own'] } : { other: i })
    }
    thread.asked.length = 0
    const history = await thread.saver().getDeltaChannelHistory({ config: thread.at(id), channels: ['items'] })
    expect(thread.asked).toEqual(['list'])
    expect(history.items?.seed).toEqual(['seed'])
    expect(history.items?.writes.map(([task, , value]) => [task, value])).toEqual(
      Array.from({ length: 50 }, (_, i) => [`task ${i}`, i]),
    )
    expect(await saver.getDeltaChannelHistory({ config: thread.at(id), channels: ['none'] })).toEqual({
      none: { writes: [] },
    })
  })

  test('what a question leaves out comes without bytes, and what it does not comes whole', async () => {
    const thread = await openThread(db)
    await thread.run(undefined, [append(3), append(2)])
    const which = { thread_id: thread.thread_id, checkpoint_ns: '' }
    const latest = thread.latest() as string
    await thread.saver().putWrites(thread.at(latest), [['items', 'written']] as never, 'task')
    const whole = await checkpoints.get(db, which)
    const leave_out = { values: ['items'], writes: ['items', 'other'] }
    const left_out = { type: 'left_out', bytes: new Uint8Array(0) }
    const [newest, older] = await checkpoints.list(db, { ...which, leave_out })
    expect(newest).toEqual({
      ...whole,
      values: [{ channel: 'items', blob: left_out }],
      writes: whole?.writes.map((write) => ({ ...write, blob: left_out })),
    })
    expect(newest).toEqual(await checkpoints.get(db, { ...which, checkpoint_id: latest, leave_out }))
    expect(older?.values).toEqual([{ channel: 'items', blob: left_out }])
    const others = { values: ['other'], writes: ['other'] }
    expect(await checkpoints.get(db, { ...which, leave_out: others })).toEqual(whole)
  })

  test('a page of the history reads no more of a long thread than it shows', async () => {
    const thread = await openThread(db)
    await thread.run(
      undefined,
      Array.from({ length: 100 }, () => append(1)),
    )
    const which = { thread_id: thread.thread_id, checkpoint_ns: '', leave_out: { values: ['items'], writes: [] } }
    for (const prepare of [sql`select 1`, sql`analyze`]) {
      await db.rows(prepare)
      const read = await db.tx(async (tx) => {
        // Of a table as small as this one, Postgres would rather read all.
        await tx.rows(sql`set local enable_seqscan = off`)
        const before = await valuesRead(tx)
        expect(await checkpoints.list(tx, { ...which, limit: 10 })).toHaveLength(10)
        return (await valuesRead(tx)) - before
      })
      expect(read).toBe(10)
    }
  })

  test.each([
    { elements: 'long', said: 'x'.repeat(500), most: 1.05, whole: 1 },
    { elements: 'short', said: 'x', most: 2.6, whole: 2 },
  ])(
    'a list of $elements elements that only grows takes at most $most times the place of what was added',
    async (list) => {
      const thread = await openThread(db)
      for (let turn = 0; turn < 10; turn++)
        await thread.run(
          undefined,
          Array.from({ length: 30 }, (_, i) => (items) => [
            ...items,
            new HumanMessage({ content: list.said, id: `${turn} ${i}` }),
          ]),
        )
      const whole = Buffer.byteLength(thread.expected.get(thread.latest() as string)?.text as string)
      const { channel_values } = await thread.storage()
      expect(channel_values.count).toBe(300)
      expect(channel_values.bytes).toBeGreaterThan(whole)
      expect(channel_values.bytes).toBeLessThan(list.most * whole)
      // Short ones are put together again, so that a read does not have to gather ever more of them.
      const [row] = await db.rows<{ n: number }>(sql`select count(*)::int as n from checkpoint_values
      where thread_id = ${thread.thread_id} and position = 0`)
      expect(row?.n).toBe(list.whole)
    },
    60_000,
  )
})
