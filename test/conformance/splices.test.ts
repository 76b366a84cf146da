// Lists that begin as others of the thread, stored without their beginning: whatever namespaces, sent states, edits, forks, rollbacks,
// prunes and copies there are, encrypted or not, every checkpoint reads with the very values and writes that it was given.

import { AIMessage, HumanMessage } from '@langchain/core/messages'
import { Send } from '@langchain/langgraph'
import { emptyCheckpoint, uuid6 } from '@langchain/langgraph-checkpoint'
import fc from 'fast-check'
import { v5, v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAesKeys } from '../../src/aes-keys.ts'
import * as checkpoints from '../../src/db/checkpoints.ts'
import type { Database } from '../../src/db/db.ts'
import * as retention from '../../src/db/retention.ts'
import { all, sql } from '../../src/db/sql.ts'
import * as threads from '../../src/db/threads.ts'
import { createCodec } from '../../src/executor/codec.ts'
import { createLangChainLoader } from '../../src/executor/langchain.ts'
import { followLatest } from '../../src/executor/latest.ts'
import { createOverlay } from '../../src/executor/overlay.ts'
import { createSaver } from '../../src/executor/saver.ts'
import type { Blob, StoredCheckpoint } from '../../src/executor/stored.ts'
import { createStorage } from '../../src/graph/storage.ts'
import { kinds, openEmpty } from '../support/databases.ts'

const NAMESPACES = ['', 'a:1', 'a:1|b:2', 'c:3'] as const
type Namespace = (typeof NAMESPACES)[number]
const TASKS = '__pregel_tasks'

/** What a step makes of its namespace's list, and what it stores beside it. */
interface Step {
  namespace: Namespace
  list: 'grows' | 'is_given' | 'is_edited' | 'is_emptied' | 'stays'
  /** Whose list is given, sent and returned. */
  from: Namespace
  given: boolean
  sent: boolean
  returned: boolean
  /** Whether what was stored is read at once. */
  read: boolean
}

interface Expected {
  namespace: Namespace
  run: string
  values: Record<string, string>
  writes: Record<string, string>
}

const textOf = ({ bytes }: Blob) => Buffer.from(bytes).toString()
const shown = ({ values, writes }: StoredCheckpoint) => ({
  values: Object.fromEntries(values.map(({ channel, blob }) => [channel, textOf(blob)])),
  writes: Object.fromEntries(writes.map(({ idx, channel, blob }) => [`${idx} ${channel}`, textOf(blob)])),
})

let said = 0
const message = () => {
  const content = `What was said ${++said} times is quite long. `.repeat(8)
  return said % 2 ? new HumanMessage({ content, id: `m${said}` }) : new AIMessage({ content, id: `m${said}` })
}

async function openThread(db: Database) {
  const thread_id = v7()
  await db.rows(sql`insert into threads (thread_id, metadata) values (${thread_id}, '{}')`)
  const langchain = await createLangChainLoader()()
  const codec = createCodec(langchain)
  const storage = createStorage({ db, store: { batch: async () => [] }, flushed: () => Promise.resolve() })
  const expected = new Map<string, Expected>()
  const print = (value: unknown) => textOf(codec.encode(value, 'test'))
  const at = (checkpoint_ns: string, checkpoint_id?: string) => ({
    configurable: { thread_id, checkpoint_ns, ...(checkpoint_id !== undefined && { checkpoint_id }) },
  })
  let count = 0
  let remembered: StoredCheckpoint | undefined

  /** Steps of a run, or of an update of the state: the first of each namespace goes on from its latest checkpoint, or from `fork`. */
  async function run(steps: readonly Step[], options: { fork?: string | undefined; update?: boolean } = {}) {
    const run_id = v7()
    const overlay = createOverlay(storage)
    const latest = followLatest(options.fork === undefined ? remembered : undefined)
    const sink = {
      put: (put: Parameters<typeof overlay.sink.put>[0]) => checkpoints.store(db, { puts: [put], writes: [], run_id }),
      writes: (writes: Parameters<typeof overlay.sink.writes>[0]) =>
        checkpoints.store(db, { puts: [], writes: [writes], run_id }),
      settled: () => Promise.resolve(),
    }
    const saver = createSaver({
      langchain,
      codec,
      storage: options.update ? overlay.storage : latest.storage(storage),
      sink: options.update ? overlay.sink : latest.sink(sink),
    }).checkpointer
    const known = new Map<Namespace, { items: unknown[]; versions: Record<string, string>; id: string | undefined }>()
    const open = async (namespace: Namespace) => {
      const fork = expected.get(options.fork ?? '')?.namespace === namespace ? options.fork : undefined
      const tuple = await saver.getTuple(at(namespace, fork))
      const { channel_values, channel_versions, id } = tuple?.checkpoint ?? {}
      const items = (channel_values?.items ?? []) as unknown[]
      const found = { items, versions: { ...channel_versions } as Record<string, string>, id }
      known.set(namespace, found)
      return found
    }
    for (const step of steps) {
      const place = known.get(step.namespace) ?? (await open(step.namespace))
      const theirs = (known.get(step.from) ?? (await open(step.from))).items
      const { items } = place
      const next = {
        grows: () => [...items, message()],
        is_given: () => [...theirs, message()],
        is_edited: () => items.map((item, i) => (i === items.length >> 1 ? message() : item)),
        is_emptied: () => [],
        stays: () => items,
      }[step.list]()
      const values: Record<string, unknown> = {
        ...(step.list !== 'stays' && { items: next }),
        ...(step.given && { __start__: { items: theirs, deep: [{ items: [...items, message()] }, 'text'] } }),
        ...(step.sent && {
          [TASKS]: [new Send('one', { items: theirs }), new Send('two', { items: [...items, 'x'] })],
        }),
      }
      const newVersions = Object.fromEntries(
        Object.keys(values).map((channel) => [channel, saver.getNextVersion(place.versions[channel]) as string]),
      )
      const versions = { ...place.versions, ...newVersions }
      const before = expected.get(place.id ?? '')?.values ?? {}
      const id = uuid6(count++)
      const checkpoint = { ...emptyCheckpoint(), id, channel_values: values, channel_versions: versions }
      await saver.put(at(step.namespace, place.id), checkpoint as never, {} as never, newVersions)
      const texts = Object.entries(values).map(([channel, value]) => [channel, print(value)])
      const one: Expected = {
        namespace: step.namespace,
        run: run_id,
        values: { ...before, ...Object.fromEntries(texts) },
        writes: {},
      }
      expected.set(id, one)
      if (step.returned) {
        const writes: [string, unknown][] = [
          ['items', [...theirs, message()]],
          [TASKS, new Send('three', { state: { items: next } })],
          ['items', message()],
        ]
        await saver.putWrites(at(step.namespace, id), writes as never, v5(id, v5.URL))
        writes.forEach(([channel, value], i) => {
          one.writes[`${i} ${channel}`] = print(value)
        })
      }
      known.set(step.namespace, { items: next, versions, id })
      if (!step.read) continue
      const tuple = await saver.getTuple(at(step.namespace, id))
      const read = Object.entries(tuple?.checkpoint.channel_values ?? {})
      expect(Object.fromEntries(read.map(([channel, value]) => [channel, print(value)]))).toEqual(one.values)
      expect(tuple?.pendingWrites?.map(([, , value]) => print(value))).toEqual(Object.values(one.writes))
    }
    if (options.update) await checkpoints.store(db, { puts: overlay.puts, writes: overlay.writes, run_id })
    remembered = options.update ? undefined : latest.stored()
    if (remembered) expect(shown(remembered)).toEqual(meant(remembered.checkpoint_id))
    return run_id
  }
  const meant = (id: string) => {
    const { values, writes } = expected.get(id) as Expected
    return { values, writes }
  }
  const read = async (of: string) => {
    const found = await checkpoints.list(db, { thread_id: of })
    return Object.fromEntries(found.map((stored) => [stored.checkpoint_id, shown(stored)]))
  }

  return {
    thread_id,
    expected,
    run,
    saver: () =>
      createSaver({
        langchain,
        codec,
        storage,
        sink: {
          put: (put) => checkpoints.store(db, { puts: [put], writes: [], run_id: null }),
          writes: (writes) => checkpoints.store(db, { puts: [], writes: [writes], run_id: null }),
          settled: () => Promise.resolve(),
        },
      }).checkpointer,
    all: () => Object.fromEntries([...expected.keys()].map((id) => [id, meant(id)])),
    read: () => read(thread_id),
    copied: async () => read((await threads.copy(db, thread_id, all)).thread_id),
    one: async (checkpoint_id: string) => {
      const { namespace: checkpoint_ns } = expected.get(checkpoint_id) as Expected
      const found = await checkpoints.get(db, { thread_id, checkpoint_ns, checkpoint_id })
      return found && shown(found)
    },
    async rollBack(run: string) {
      remembered = undefined
      await checkpoints.removeOfRun(db, thread_id, run)
      for (const [id, of] of expected) if (of.run === run) expected.delete(id)
    },
    async prune() {
      remembered = undefined
      await retention.prune(db, [thread_id], 'keep_latest', all)
      const left = new Set(Object.keys(await read(thread_id)))
      for (const id of expected.keys()) if (!left.has(id)) expected.delete(id)
    },
    /** In how many values and writes others' lists begin. */
    async stored() {
      const [row] = await db.rows<{ values: number; writes: number }>(sql`select
        (select count(*)::int from checkpoint_values where thread_id = ${thread_id} and splices is not null) as values,
        (select count(*)::int from checkpoint_writes where thread_id = ${thread_id} and splices is not null) as writes`)
      return row as { values: number; writes: number }
    },
  }
}

const step: fc.Arbitrary<Step> = fc.record({
  namespace: fc.constantFrom(...NAMESPACES),
  list: fc.constantFrom('grows', 'grows', 'grows', 'is_given', 'is_given', 'is_edited', 'is_emptied', 'stays'),
  from: fc.constantFrom(...NAMESPACES),
  given: fc.boolean(),
  sent: fc.boolean(),
  returned: fc.boolean(),
  read: fc.boolean(),
})
const steps = fc.array(step, { minLength: 1, maxLength: 6 })
const act = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('run' as const), steps }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('update' as const), steps }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fork' as const), at: fc.nat(), steps }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('roll_back' as const), steps }) },
  fc.record({ do: fc.constant('prune' as const) }),
  fc.record({ do: fc.constant('sweep' as const) }),
)

const keys = parseAesKeys(`key:${Buffer.alloc(32, 7).toString('base64')}`)

describe.each(kinds.flatMap((kind) => [false, true].map((sealed) => ({ kind, sealed }))))(
  'lists on $kind, encrypted: $sealed',
  ({ kind, sealed }) => {
    let db: Database
    beforeAll(async () => {
      db = await openEmpty(kind, sealed ? keys : undefined)
    })
    afterAll(() => db.close())

    test('read as they were at every checkpoint, wherever their beginning is stored', async () => {
      const found = { values: 0, writes: 0 }
      await fc.assert(
        fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 10 }), async (acts) => {
          const thread = await openThread(db)
          for (const one of acts) {
            const known = [...thread.expected.keys()]
            const fork = 'at' in one ? known[one.at % Math.max(known.length, 1)] : undefined
            if (one.do === 'run' || one.do === 'fork') await thread.run(one.steps, { fork })
            if (one.do === 'update') await thread.run(one.steps, { update: true })
            if (one.do === 'roll_back') await thread.rollBack(await thread.run(one.steps))
            if (one.do === 'prune') await thread.prune()
            if (one.do === 'sweep') await retention.sweepLeftovers(db)
          }
          const all = thread.all()
          expect(await thread.read()).toEqual(all)
          expect(await thread.copied()).toEqual(all)
          await retention.sweepLeftovers(db)
          for (const [id, one] of Object.entries(all)) expect(await thread.one(id)).toEqual(one)
          const stored = await thread.stored()
          found.values += stored.values
          found.writes += stored.writes
        }),
        { numRuns: 40, timeout: 60_000 },
      )
      expect(found.values).toBeGreaterThan(20)
      expect(found.writes).toBeGreaterThan(20)
    }, 180_000)

    const plain: Step = {
      namespace: '',
      list: 'grows',
      from: '',
      given: false,
      sent: false,
      returned: false,
      read: false,
    }

    test('outlast the checkpoints that have what they begin with', async () => {
      const thread = await openThread(db)
      const called = { ...plain, namespace: 'a:1', list: 'is_given' } as const
      const returned = { ...plain, namespace: 'c:3', list: 'stays', returned: true } as const
      const edited = { ...plain, list: 'is_edited' } as const
      await thread.run([plain, returned, edited, called, edited])
      await thread.prune()
      expect([...thread.expected.values()].map(({ namespace }) => namespace)).toEqual(['c:3', 'a:1', ''])
      expect(await thread.read()).toEqual(thread.all())
      expect(await thread.stored()).toEqual({ values: 1, writes: 1 })
      const versions = await db.rows(sql`select 1 from checkpoint_values where thread_id = ${thread.thread_id}
        and checkpoint_ns = '' and channel = 'items'`)
      expect(versions).toHaveLength(3)
      // Nothing names the first two any more.
      await db.rows(sql`delete from checkpoints where thread_id = ${thread.thread_id} and checkpoint_ns <> ''`)
      await thread.prune()
      const left = await db.rows(sql`select 1 from checkpoint_values where thread_id = ${thread.thread_id}`)
      expect(left).toHaveLength(1)
    })

    test('stay apart where two loops of one run share a namespace', async () => {
      const thread = await openThread(db)
      const saver = thread.saver()
      const first = saver.getNextVersion(undefined)
      const lists = ['a', 'b'].map((name) => [new HumanMessage({ content: name.repeat(400), id: name })])
      const config = { configurable: { thread_id: thread.thread_id, checkpoint_ns: 'sub' } }
      for (const [i, items] of lists.entries()) {
        const version = i === 0 ? first : saver.getNextVersion(undefined)
        const checkpoint = { ...emptyCheckpoint(), id: uuid6(i), channel_values: { items } }
        const versions = { items: version }
        const at = await saver.put(
          config,
          { ...checkpoint, channel_versions: versions } as never,
          {} as never,
          versions,
        )
        await saver.putWrites(at, [['items', [...items, message()]]], v5(checkpoint.id, v5.URL))
      }
      const found = await checkpoints.list(db, { thread_id: thread.thread_id })
      const ids = (text: string) => [...text.matchAll(/"id":"([ab])"/g)].map(([, id]) => id)
      const read = found
        .map(shown)
        .map(({ values, writes }) => [ids(values.items as string), ids(writes['0 items'] as string)])
      expect(read).toEqual([
        [['b'], ['b']],
        [['a'], ['a']],
      ])
    })

    test('take next to no place where they are given, sent and returned whole', async () => {
      const thread = await openThread(db)
      const size = async () => (await retention.measure(db, thread.thread_id, all)).total_bytes
      await thread.run(Array.from({ length: 40 }, () => plain))
      const before = await size()
      const calls = Array.from({ length: 10 }, (_, i) => ({
        ...plain,
        namespace: NAMESPACES[1 + (i % 3)] as Namespace,
      }))
      await thread.run(calls.map((step) => ({ ...step, list: 'is_given', given: true, sent: true, returned: true })))
      // Whole, the 70 lists would take 1 MB.
      expect((await size()) - before).toBeLessThan(100_000)
      expect(await thread.read()).toEqual(thread.all())
      // Where a list belongs cannot be changed in the database unnoticed.
      for (const table of [sql`checkpoint_values`, sql`checkpoint_writes`]) {
        const change = (from: string, to: string) =>
          db.rows(
            sql`update ${table} set splices = replace(splices, ${from}, ${to}) where thread_id = ${thread.thread_id}`,
          )
        await change(',"items",', ', "items",')
        if (sealed) await expect(thread.read()).rejects.toMatchObject({ code: 'cannot_decrypt' })
        await change(', "items",', ',"items",')
      }
      expect(await thread.read()).toEqual(thread.all())
    })
  },
)
