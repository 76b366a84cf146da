// The statements on assistants, threads and store items, on the embedded database: what the API cannot show by itself.

import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as assistants from '../../src/db/assistants.ts'
import type { Database } from '../../src/db/db.ts'
import * as journal from '../../src/db/journal.ts'
import { json } from '../../src/db/json.ts'
import { migrate } from '../../src/db/migrate.ts'
import { openPglite } from '../../src/db/pglite.ts'
import * as retention from '../../src/db/retention.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as state from '../../src/db/state.ts'
import * as store from '../../src/db/store.ts'
import * as threads from '../../src/db/threads.ts'
import type { StoreOp } from '../../src/executor/protocol.ts'
import type { CheckpointPut } from '../../src/executor/stored.ts'
import { createRegistry, defaultAssistantId, ensureAssistants } from '../../src/graph/registry.ts'

let db: Database
beforeAll(async () => {
  db = await openPglite({})
  await migrate(db)
})
afterAll(() => db.close())

const mine = (owner: string) => sql`metadata @> ${json({ owner })}::jsonb`
const nobody = sql`false`
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'no error',
    (error: { code?: string }) => error.code,
  )

const put = (thread_id: string, n: number, parent: number | null, of: Partial<CheckpointPut> = {}): CheckpointPut => ({
  thread_id,
  checkpoint_ns: '',
  checkpoint_id: `1f000000-0000-6000-8000-00000000000${n}`,
  parent_checkpoint_id: parent === null ? null : `1f000000-0000-6000-8000-00000000000${parent}`,
  checkpoint: { v: 4, channel_versions: { messages: n, fixed: 1 } },
  metadata: { step: n },
  values: [
    { channel: 'messages', version: String(n), blob: { type: 'json', bytes: new Uint8Array(10 * n) } },
    ...(n === 1 ? [{ channel: 'fixed', version: '1', blob: { type: 'json', bytes: new Uint8Array(5) } }] : []),
  ],
  ...of,
})

async function threadWithHistory(ttl?: threads.ThreadTtl): Promise<string> {
  const { thread_id } = await threads.create(db, { thread_id: v7(), ttl }, 'raise', all)
  const puts = [put(thread_id, 1, null), put(thread_id, 2, 1), put(thread_id, 3, 2)]
  const writes = [1, 3].map((n) => ({
    thread_id,
    checkpoint_ns: '',
    checkpoint_id: `1f000000-0000-6000-8000-00000000000${n}`,
    task_id: v7(),
    task_path: '',
    writes: [{ idx: 0, channel: 'messages', blob: { type: 'json', bytes: new Uint8Array(7) } }],
  }))
  await journal.store(db, { puts, writes, run_id: null })
  return thread_id
}
const startRun = (thread_id: string) =>
  db.rows(sql`insert into runs (run_id, thread_id, assistant_id, graph_id, status, metadata, kwargs, multitask_strategy)
    values (${v7()}::uuid, ${thread_id}::uuid, ${v7()}::uuid, 'agent', 'pending', '{}', '{}', 'enqueue')`)

describe('the registry', () => {
  const graphs = [
    { graph_id: 'agent', description: null },
    { graph_id: 'a/b', description: 'odd' },
  ]
  const registry = createRegistry({ executor: { graphs: () => graphs } })

  test('takes a graph id for the assistant every LangGraph server has for it', () => {
    expect(registry.resolve('agent')).toBe('fe096781-5601-53d2-b2f6-0d3403f7e9ca')
    expect(registry.resolve('a/b')).toBe(defaultAssistantId('a/b'))
  })
  test('takes a uuid in any case as it is, and refuses the rest', () => {
    expect(registry.resolve('FE096781-5601-53D2-B2F6-0D3403F7E9CA')).toBe('fe096781-5601-53d2-b2f6-0d3403f7e9ca')
    expect(() => registry.resolve('nothing')).toThrow('There is no assistant or graph "nothing".')
    expect(() => registry.graph('nothing')).toThrow('The graphs here: "agent", "a/b".')
  })
  test('makes each graph its assistant once, and follows its description until someone changes the assistant', async () => {
    const id = defaultAssistantId('agent')
    await Promise.all([ensureAssistants(db, graphs), ensureAssistants(db, graphs, { tags: ['late'] })])
    const first = await assistants.get(db, id, all)
    expect(first).toMatchObject({ name: 'agent', graph_id: 'agent', version: 1, metadata: { created_by: 'system' } })
    await ensureAssistants(db, [{ graph_id: 'agent', description: 'new' }])
    expect((await assistants.get(db, id, all)).description).toBe('new')
    expect((await assistants.versions(db, id, { limit: 10, offset: 0 }, all)).map((v) => v.description)).toEqual([
      'new',
    ])
    await assistants.update(db, id, { description: 'by hand' }, all)
    await ensureAssistants(db, [{ graph_id: 'agent', description: 'newer' }])
    expect((await assistants.get(db, id, all)).description).toBe('by hand')
  })
})

describe('assistants', () => {
  const make = (of: Partial<assistants.AssistantRow> = {}) =>
    assistants.create(db, { assistant_id: v7(), graph_id: 'agent', name: 'Untitled', ...of }, 'raise', all)

  test('go back to a version with everything it held', async () => {
    const { assistant_id: id } = await make({
      name: 'one',
      description: 'first',
      context: { a: 1 },
      config: { tags: ['x'] },
      metadata: { m: 1 },
    })
    const change = { name: 'two', description: null, context: null, config: {}, graph_id: 'other', metadata: { n: 2 } }
    const second = await assistants.update(db, id, change, all)
    expect(second).toMatchObject({ ...change, metadata: { m: 1, n: 2 }, version: 2 })
    const back = await assistants.setLatest(db, id, 1, all)
    expect(back).toMatchObject({ name: 'one', description: 'first', context: { a: 1 }, graph_id: 'agent', version: 1 })
    expect(back.metadata).toEqual({ m: 1 })
    expect((await assistants.update(db, id, { name: 'three' }, all)).version).toBe(3)
    expect(await code(assistants.setLatest(db, id, 9, all))).toBe('version_not_found')
  })
  test('get every version number once when changed at the same time', async () => {
    const { assistant_id: id } = await make()
    await Promise.all(
      Array.from({ length: 8 }, (_, n) => assistants.update(db, id, { metadata: { [`k${n}`]: n } }, all)),
    )
    const now = await assistants.get(db, id, all)
    expect(now.version).toBe(9)
    expect(Object.keys(now.metadata)).toHaveLength(8)
  })
  test('that a caller may not see are not there, whatever is asked', async () => {
    const { assistant_id: id } = await make({ metadata: { owner: 'ann' } })
    const bob = mine('bob')
    const page = { limit: 10, offset: 0 }
    for (const asked of [
      assistants.get(db, id, bob),
      assistants.update(db, id, { name: 'x' }, bob),
      assistants.setLatest(db, id, 1, bob),
      assistants.versions(db, id, page, bob),
      assistants.remove(db, id, bob),
    ]) {
      expect(await code(asked)).toBe('assistant_not_found')
    }
    expect(await assistants.search(db, {}, page, bob)).toEqual({ rows: [], total: 0 })
    const again = { assistant_id: id, graph_id: 'agent', name: 'x' }
    expect(await code(assistants.create(db, again, 'do_nothing', bob))).toBe('assistant_exists')
    expect((await assistants.create(db, again, 'do_nothing', mine('ann'))).name).toBe('Untitled')
  })
  test('are found by a literal part of their name', async () => {
    for (const name of ['100% Sure', '100x sure', 'a_b', 'aXb']) await make({ name, metadata: { found: true } })
    const names = async (name: string) =>
      (
        await assistants.search(
          db,
          { name, metadata: { found: true } },
          { limit: 10, offset: 0, select: ['name'] },
          all,
        )
      ).rows.map((row) => row.name)
    expect(await names('0% SURE')).toEqual(['100% Sure'])
    expect(await names('a_B')).toEqual(['a_b'])
  })
})

describe('threads', () => {
  test('that are hidden or doomed are not there, whatever is asked', async () => {
    const { thread_id: id } = await threads.create(db, { thread_id: v7(), metadata: { owner: 'ann' } }, 'raise', all)
    const asks = (visible: typeof all) => [
      () => threads.get(db, id, visible),
      () => threads.update(db, id, { metadata: {} }, visible),
      () => threads.copy(db, id, visible),
      () => retention.measure(db, id, visible),
      () => state.subject(db, id, visible),
      () => db.tx((tx) => state.lock(tx, id, visible)),
      () => threads.remove(db, id, visible),
    ]
    for (const ask of asks(nobody)) expect(await code(ask())).toBe('thread_not_found')
    expect(await retention.prune(db, [id], 'delete', nobody)).toBe(0)
    expect(await threads.count(db, { ids: [id] }, all)).toBe(1)
    await db.rows(sql`update threads set doomed_at = now() where thread_id = ${id}::uuid`)
    for (const ask of asks(all)) expect(await code(ask())).toBe('thread_not_found')
    expect(await threads.count(db, { ids: [id] }, all)).toBe(0)
    expect(await code(threads.create(db, { thread_id: id }, 'do_nothing', all))).toBe('thread_exists')
  })
  test('are busy exactly while a run is pending or running', async () => {
    const { thread_id: id, status } = await threads.create(db, { thread_id: v7() }, 'raise', all)
    expect(status).toBe('idle')
    await startRun(id)
    expect((await threads.get(db, id, all)).status).toBe('busy')
    const found = (status: threads.ThreadStatus) => threads.count(db, { ids: [id], status }, all)
    expect([await found('busy'), await found('idle')]).toEqual([1, 0])
    await db.rows(sql`update runs set status = 'success' where thread_id = ${id}::uuid`)
    expect([await found('busy'), await found('idle')]).toEqual([0, 1])
  })
  test('are copied with all their checkpoints, but without the runs that wrote them', async () => {
    const id = await threadWithHistory()
    const run = v7()
    await db.rows(sql`update checkpoints set run_id = ${run}::uuid where thread_id = ${id}::uuid`)
    await startRun(id)
    const copy = await threads.copy(db, id, all)
    expect(copy).toMatchObject({ status: 'idle', metadata: { thread_id: copy.thread_id } })
    const { checkpoints: points, ...size } = await retention.measure(db, id, all)
    // Their metadata names the run, where a column has said it.
    const more = points.count * `, "run_id": "${run}"`.length
    expect(await retention.measure(db, copy.thread_id, all)).toEqual({
      ...size,
      thread_id: copy.thread_id,
      total_bytes: size.total_bytes + more,
      checkpoints: { ...points, bytes: points.bytes + more },
    })
    expect(
      await db.rows(
        sql`select run_id from checkpoints where thread_id = ${copy.thread_id}::uuid and run_id is not null`,
      ),
    ).toEqual([])
    expect(await db.rows(sql`select 1 from runs where thread_id = ${copy.thread_id}::uuid`)).toEqual([])
  })
  test('say exactly how many bytes they take', async () => {
    const size = await retention.measure(db, await threadWithHistory(), all)
    expect(size.checkpoints.count).toBe(3)
    expect(size.channel_values).toEqual({
      count: 4,
      bytes: 65,
      by_channel: { fixed: { versions: 1, bytes: 5 }, messages: { versions: 3, bytes: 60 } },
    })
    expect(size.pending_writes).toEqual({ count: 2, bytes: 14 })
    expect(size.total_bytes).toBe(size.checkpoints.bytes + 65 + 14)
    const empty = await threads.create(db, { thread_id: v7() }, 'raise', all)
    expect(await retention.measure(db, empty.thread_id, all)).toMatchObject({
      total_bytes: 0,
      channel_values: { count: 0, bytes: 0, by_channel: {} },
    })
  })
  test('pruned to the latest checkpoint keep every value that it needs, and nothing else', async () => {
    const id = await threadWithHistory()
    expect(await retention.prune(db, [id, v7()], 'keep_latest', all)).toBe(1)
    const left = await retention.measure(db, id, all)
    expect(left.checkpoints.count).toBe(1)
    expect(left.channel_values.by_channel).toEqual({
      fixed: { versions: 1, bytes: 5 },
      messages: { versions: 1, bytes: 30 },
    })
    expect(left.pending_writes).toEqual({ count: 1, bytes: 7 })
  })
  test('keep older checkpoints that hold what the latest one counts its changes from', async () => {
    const id = await threadWithHistory()
    const metadata = { step: 4, counters_since_delta_snapshot: { messages: [2, 2] } }
    await journal.store(db, { puts: [put(id, 4, 3, { metadata })], writes: [], run_id: null })
    await retention.prune(db, [id], 'keep_latest', all)
    expect((await retention.measure(db, id, all)).checkpoints.count).toBe(4)
  })
  test('end at their time, each in its way, but not while a run is waiting', async () => {
    const ttl = (strategy: 'delete' | 'keep_latest') => threadWithHistory({ strategy, ttl: 1 })
    const [gone, kept, busy, later] = [
      await ttl('delete'),
      await ttl('keep_latest'),
      await ttl('delete'),
      await ttl('delete'),
    ]
    await startRun(busy)
    await db.rows(
      sql`update threads set expires_at = now() - interval '1 s' where thread_id = any(${[gone, kept, busy]}::uuid[])`,
    )
    expect(await threads.find(db, gone, all)).toBeUndefined()
    expect(await threads.count(db, { ids: [gone, kept, busy] }, all)).toBe(2)
    expect(await retention.sweepExpired(db, 100)).toEqual({ deleted: 1, pruned: 1 })
    expect(await retention.sweepExpired(db, 100)).toEqual({ deleted: 0, pruned: 0 })
    expect(await db.rows(sql`select 1 from threads where thread_id = ${gone}::uuid`)).toEqual([])
    expect(await threads.find(db, gone, all)).toBeUndefined()
    expect((await retention.measure(db, kept, all)).checkpoints.count).toBe(1)
    const now = (await threads.get(db, kept, all, { ttl: true })).ttl
    expect(Date.parse(now?.expires_at ?? '')).toBeGreaterThan(Date.now() + 30_000)
    expect(await threads.count(db, { ids: [busy, later] }, all)).toBe(2)
  })
  test('give what a path points at, whatever the names in it', async () => {
    const { thread_id: id } = await threads.create(
      db,
      { thread_id: v7(), metadata: { "a'b": { '': 1 } } },
      'raise',
      all,
    )
    const values = json({ messages: [{ content: 'a' }, { content: 'b' }] })
    await db.rows(sql`update threads set "values" = ${values}::json where thread_id = ${id}::uuid`)
    const extract = {
      last: ['values', 'messages', -1, 'content'],
      "it's": ['metadata', "a'b"],
      none: ['values', 'nothing', 0],
    }
    const { rows } = await threads.search(
      db,
      { ids: [id] },
      { limit: 1, offset: 0, select: ['thread_id'], extract },
      all,
    )
    expect(rows).toEqual([{ thread_id: id, extracted: { last: 'b', "it's": { '': 1 }, none: null } }])
  })
})

describe('the state of a thread', () => {
  test('changes only when nothing runs, and says so by a new epoch', async () => {
    const id = await threadWithHistory()
    const before = (await state.epoch(db, id)) as number
    await db.tx(async (tx) => {
      expect(await state.lock(tx, id, all)).toBe(before)
      await state.settle(tx, id, { values: '{"a":"\\u0000"}', next: ['x'], interrupts: {}, checkpoint_id: null })
    })
    expect(await threads.get(db, id, all)).toMatchObject({ values: { a: '\0' }, status: 'interrupted' })
    expect(await state.epoch(db, id)).toBe(before + 1)
    await db.tx((tx) => state.patchMetadata(tx, id, { seen: true }))
    expect(await state.epoch(db, id)).toBe(before + 2)
    const [latest] = await db.rows(
      sql`select metadata from checkpoints where thread_id = ${id}::uuid order by checkpoint_id desc limit 1`,
    )
    expect(latest).toEqual({ metadata: { step: 3, seen: true } })
    await startRun(id)
    expect(await code(state.epoch(db, id))).toBe('thread_busy')
    expect(await code(db.tx((tx) => state.lock(tx, id, all)))).toBe('thread_busy')
  })

  test('is another after a prune', async () => {
    const id = await threadWithHistory()
    const before = (await state.epoch(db, id)) as number
    await retention.prune(db, [id], 'keep_latest', all)
    expect(await state.epoch(db, id)).toBe(before + 1)
  })
})

describe('the store', () => {
  const item = (namespace: string[], key: string, value: Record<string, unknown>) =>
    store.put(db, { namespace, key, value }, all)
  const keys = async (namespace_prefix: string[], filter?: Record<string, unknown>) =>
    (await store.search(db, { namespace_prefix, limit: 100, offset: 0, ...(filter && { filter }) }, all)).map(
      (i) => i.key,
    )

  test('compares namespaces label by label and literally', async () => {
    for (const [first, second] of [
      ['a', 'x'],
      ['ab', 'x'],
      ['a%', 'x'],
      ['x', 'a'],
      ['a_', 'x'],
    ] as const) {
      await item(['ns', first, second], `${first}/${second}`, { n: 1 })
    }
    expect(await keys(['ns', 'a'])).toEqual(['a/x'])
    expect(await keys(['ns', 'a%'])).toEqual(['a%/x'])
    expect(await keys(['a'])).toEqual([])
    expect((await keys(['ns'])).sort()).toEqual(['a%/x', 'a/x', 'a_/x', 'ab/x', 'x/a'])
  })
  test('filters by equality, by operators and into objects', async () => {
    await item(['f'], 'one', { n: 1, s: '2024-01-01', o: { a: { b: 1 }, c: 2 }, l: [1, 2], z: null })
    await item(['f'], 'ten', { n: 10, s: '2025-01-01', o: { a: { b: 2 } }, l: [2, 1], "x') or 1=1 --": true })
    const found = async (filter: Record<string, unknown>) => (await keys(['f'], filter)).sort()
    expect(await found({ n: 1 })).toEqual(['one'])
    expect(await found({ n: { $gt: 2 } })).toEqual(['ten'])
    expect(await found({ n: { $gte: 1, $lt: 10 } })).toEqual(['one'])
    expect(await found({ n: { $ne: 1 } })).toEqual(['ten'])
    expect(await found({ n: { $gt: '0' } })).toEqual([])
    expect(await found({ s: { $lte: '2024-06' } })).toEqual(['one'])
    expect(await found({ o: { a: { b: 2 } } })).toEqual(['ten'])
    expect(await found({ o: { c: { $eq: 2 } } })).toEqual(['one'])
    expect(await found({ l: [2, 1] })).toEqual(['ten'])
    expect(await found({ z: null })).toEqual(['one', 'ten'])
    expect(await found({ missing: { $ne: 1 } })).toEqual(['one', 'ten'])
    expect(await found({ "x') or 1=1 --": true })).toEqual(['ten'])
    expect(await code(found({ n: { $where: 1 } }))).toBe('validation_failed')
    expect(await code(found({ n: { constructor: 1, $toString: 1 } }))).toBe('validation_failed')
    expect(await code(found({ n: { $gt: {} } }))).toBe('validation_failed')
  })
  test('lists namespaces by prefix, suffix, wildcard and depth', async () => {
    for (const ns of [
      ['l', 'a', 'x', '1'],
      ['l', 'a', 'y', '2'],
      ['l', 'b', 'x', '1'],
      ['m', 'l'],
    ])
      await item(ns, 'k', {})
    const listed = (op: { prefix?: string[]; suffix?: string[]; max_depth?: number }) =>
      store.namespaces(db, { limit: 100, offset: 0, ...op }, all)
    expect(await listed({ prefix: ['l'], max_depth: 2 })).toEqual([
      ['l', 'a'],
      ['l', 'b'],
    ])
    expect(await listed({ prefix: ['l', '*', 'x'] })).toEqual([
      ['l', 'a', 'x', '1'],
      ['l', 'b', 'x', '1'],
    ])
    expect(await listed({ suffix: ['y', '*'] })).toEqual([['l', 'a', 'y', '2']])
    expect(await listed({ suffix: ['l'] })).toEqual([['m', 'l']])
  })
  test('does a batch in order and gives one result each', async () => {
    const at = { namespace: ['batch'], key: 'k' }
    const results = await store.batch(
      db,
      [
        { op: 'get', ...at },
        { op: 'put', ...at, value: { n: 1 } },
        { op: 'put', ...at, value: { n: 2 } },
        { op: 'get', ...at },
        { op: 'search', namespace_prefix: ['batch'], limit: 10, offset: 0 },
        { op: 'put', ...at, value: null },
        { op: 'get', ...at },
        { op: 'namespaces', prefix: ['batch'], limit: 10, offset: 0 },
      ],
      all,
    )
    const here = { ...at, value: { n: 2 } }
    expect(results).toMatchObject([null, null, null, here, [here], null, null, []])
  })
  test('stores nothing of a batch that has a mistake', async () => {
    const bad: StoreOp = { op: 'put', namespace: ['langgraph'], key: 'k', value: {} }
    expect(await code(store.batch(db, [{ op: 'put', namespace: ['half'], key: 'k', value: {} }, bad], all))).toBe(
      'validation_failed',
    )
    expect(await keys(['half'])).toEqual([])
  })
  test('forgets an item at its time, and renews the time at each read that does not say otherwise', async () => {
    const at = { namespace: ['ttl'], key: 'k' }
    const left = async () =>
      (
        await db.rows<{ s: number }>(
          sql`select extract(epoch from expires_at - now())::float8 as s from store_items where key = 'k' and namespace = ${['ttl']}::text[]`,
        )
      )[0]?.s ?? 0
    const soon = () =>
      db.rows(sql`update store_items set expires_at = now() + interval '5 s' where namespace = ${['ttl']}::text[]`)
    await store.put(db, { ...at, value: { n: 1 }, ttl: 10 }, all)
    expect(await left()).toBeGreaterThan(590)
    await soon()
    await store.get(db, { ...at, refresh_ttl: false }, all)
    await store.search(db, { namespace_prefix: ['ttl'], limit: 1, offset: 0, refresh_ttl: false }, all)
    expect(await left()).toBeLessThan(6)
    await store.get(db, at, all)
    expect(await left()).toBeGreaterThan(590)
    await soon()
    await store.search(db, { namespace_prefix: ['ttl'], limit: 1, offset: 0 }, all)
    expect(await left()).toBeGreaterThan(590)
    await db.rows(sql`update store_items set expires_at = now() - interval '1 s' where namespace = ${['ttl']}::text[]`)
    expect(await store.get(db, at, all)).toBeNull()
    expect(await store.namespaces(db, { prefix: ['ttl'], limit: 1, offset: 0 }, all)).toEqual([])
    expect(await store.sweepExpired(db, 10)).toBe(1)
    expect(await store.sweepExpired(db, 10)).toBe(0)
  })
  test.each([
    ['an empty namespace', [], 'k'],
    ['an empty label', ['a', ''], 'k'],
    ['a dot', ['a.b'], 'k'],
    ['a NUL', ['a\0'], 'k'],
    ['half a character', ['a\ud800'], 'k'],
    ['17 labels', Array.from({ length: 17 }, () => 'a'), 'k'],
    ['513 bytes', ['é'.repeat(257)], 'k'],
    ['a reserved root', ['langgraph', 'a'], 'k'],
    ['2049 bytes in all', ['a'.repeat(512), 'b'.repeat(512), 'c'.repeat(512), 'd'], 'e'.repeat(512)],
    ['an empty key', ['a'], ''],
  ])('refuses %s in an address', async (_, namespace, key) => {
    expect(await code(item(namespace, key, {}))).toBe('validation_failed')
  })
})
