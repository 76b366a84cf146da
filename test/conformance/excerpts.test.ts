// What tasks wrote and is stored as taken from the values it went into: after any mix of runs, forks, replays, rollbacks, prunes
// and copies, encrypted or not, every checkpoint reads with the very writes and values that it was given.

import { AIMessage } from '@langchain/core/messages'
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
import { createSaver } from '../../src/executor/saver.ts'
import type { Blob, CheckpointPut, StoredCheckpoint, WritesPut } from '../../src/executor/stored.ts'
import { createStorage } from '../../src/graph/storage.ts'
import { kinds, openEmpty } from '../support/databases.ts'

/** What the tasks of a step write: how many messages each, and whether a text beside them. */
interface Step {
  tasks: { messages: number; text: boolean }[]
  /** Whether it is stored in one statement, as when the journal finds it together. */
  together: boolean
}

interface Expected {
  run: string
  values: Record<string, string>
  /** By task and index: what the first run that wrote it has written. */
  writes: Map<string, { run: string; channel: string; text: string }>
}

const textOf = ({ bytes }: Blob) => Buffer.from(bytes).toString()

/** A checkpoint as it reads. */
const shown = ({ values, writes }: StoredCheckpoint) => ({
  values: Object.fromEntries(values.map(({ channel, blob }) => [channel, textOf(blob)])),
  writes: Object.fromEntries(
    writes.map(({ task_id, idx, channel, blob }) => [`${task_id} ${idx}`, [channel, textOf(blob)]]),
  ),
})
const meant = ({ values, writes }: Expected, channel?: string) => ({
  values,
  writes: Object.fromEntries(
    [...writes].flatMap(([key, write]) =>
      channel === undefined || write.channel === channel ? [[key, [write.channel, write.text]]] : [],
    ),
  ),
})

let said = 0
const sentence = () =>
  `What was said ${++said} times is long enough to be worth an excerpt, or so one would say. `.repeat(2)

async function openThread(db: Database) {
  const thread_id = v7()
  await db.rows(sql`insert into threads (thread_id, metadata) values (${thread_id}, '{}')`)
  const langchain = await createLangChainLoader()()
  const codec = createCodec(langchain)
  const storage = createStorage({ db, store: { batch: async () => [] }, flushed: () => Promise.resolve() })
  const expected = new Map<string, Expected>()
  const print = (value: unknown) => textOf(codec.encode(value, 'test'))
  const at = (checkpoint_id?: string) => ({
    configurable: { thread_id, checkpoint_ns: '', ...(checkpoint_id !== undefined && { checkpoint_id }) },
  })
  const newest = () => [...expected.keys()].sort().at(-1)
  let count = 0

  /** A run from a checkpoint, the latest without one. */
  async function run(from: string | undefined, steps: readonly Step[]) {
    const run_id = v7()
    const sent: { puts: CheckpointPut[]; writes: WritesPut[] }[] = []
    const saver = createSaver({
      langchain,
      codec,
      storage,
      sink: {
        put: async (put) => void sent.push({ puts: [put], writes: [] }),
        writes: async (writes) => void sent.push({ puts: [], writes: [writes] }),
        settled: () => Promise.resolve(),
      },
    }).checkpointer
    const tuple = await saver.getTuple(at(from))
    let items = (tuple?.checkpoint.channel_values.items ?? []) as AIMessage[]
    let text = tuple?.checkpoint.channel_values.text as string | undefined
    let version = tuple?.checkpoint.channel_versions.items as string | undefined
    let parent = tuple?.checkpoint.id
    const put = async () => {
      version = saver.getNextVersion(version) as string
      const id = uuid6(count++)
      const channel_values = { items, ...(text !== undefined && { text }) }
      const channel_versions = { items: version, ...(text !== undefined && { text: version }) }
      const checkpoint = { ...emptyCheckpoint(), id, channel_values, channel_versions }
      await saver.put(at(parent), checkpoint as never, {} as never, channel_versions as never)
      const values = Object.fromEntries(Object.entries(channel_values).map(([name, value]) => [name, print(value)]))
      expected.set(id, { run: run_id, values, writes: new Map() })
      parent = id
    }
    const store = async (together: boolean) => {
      const batches = together
        ? [{ puts: sent.flatMap(({ puts }) => puts), writes: sent.flatMap(({ writes }) => writes) }]
        : sent
      for (const batch of batches) await checkpoints.store(db, { ...batch, run_id })
      sent.length = 0
    }
    if (parent === undefined) await put()
    for (const { tasks, together } of steps) {
      const of = expected.get(parent as string) as Expected
      const added: AIMessage[] = []
      for (const [i, task] of tasks.entries()) {
        const messages = Array.from({ length: task.messages }, () => new AIMessage(sentence()))
        const writes: [string, unknown][] = [['items', messages]]
        if (task.text) writes.push(['text', sentence()])
        // The same tasks whoever runs from there: what was written first stays.
        const task_id = v5(`${parent} ${i}`, v5.URL)
        await saver.putWrites(at(parent), writes as never, task_id)
        writes.forEach(([channel, value], idx) => {
          const key = `${task_id} ${idx}`
          if (!of.writes.has(key)) of.writes.set(key, { run: run_id, channel, text: print(value) })
        })
        // As reducers do.
        for (const message of messages) message.id = `m${++said}`
        added.push(...messages)
        if (task.text) text = writes[1]?.[1] as string
      }
      items = [...items, ...added]
      await put()
      await store(together)
    }
    await store(false)
    return run_id
  }

  return {
    thread_id,
    expected,
    run,
    async rollBack(run: string) {
      await checkpoints.removeOfRun(db, thread_id, run)
      for (const [id, of] of expected) if (of.run === run) expected.delete(id)
      for (const { writes } of expected.values())
        for (const [key, write] of writes) if (write.run === run) writes.delete(key)
    },
    async prune() {
      const last = newest()
      await retention.prune(db, [thread_id], 'keep_latest', all)
      for (const id of expected.keys()) if (id !== last) expected.delete(id)
    },
    /** What a copy of the thread reads as. */
    async copied() {
      const copy = await threads.copy(db, thread_id, all)
      const found = await checkpoints.list(db, { thread_id: copy.thread_id })
      return Object.fromEntries(found.map((stored) => [stored.checkpoint_id, shown(stored)]))
    },
    async one(checkpoint_id: string) {
      const found = await checkpoints.get(db, { thread_id, checkpoint_ns: '', checkpoint_id })
      return found && shown(found)
    },
    async listed() {
      const found = await checkpoints.list(db, { thread_id, checkpoint_ns: '' })
      return Object.fromEntries(found.map((stored) => [stored.checkpoint_id, shown(stored)]))
    },
    /** What a question gives that leaves out all texts: by checkpoint, how many writes came without bytes. */
    async leftOut() {
      const leave_out = { values: ['text'], writes: ['text'] }
      const found = await checkpoints.list(db, { thread_id, checkpoint_ns: '', leave_out })
      return found.flatMap(({ writes }) => writes).filter(({ blob }) => blob.type === 'left_out').length
    },
    /** The writes to the messages' channel at the latest checkpoint and those before it, as its history has them. */
    async history() {
      const found = await checkpoints.list(db, { thread_id, checkpoint_ns: '', history_of: ['items'] })
      return found.map((stored) => [stored.checkpoint_id, shown(stored).writes] as const)
    },
    /** How many writes are excerpts, and the versions that nothing needs. */
    async stored() {
      const values = await db.rows<{ channel: string; version: string; base: string | null }>(
        sql`select channel, version, base from checkpoint_values where thread_id = ${thread_id}`,
      )
      const points = await db.rows<{ checkpoint: { channel_versions: Record<string, string> } }>(
        sql`select checkpoint from checkpoints where thread_id = ${thread_id}`,
      )
      const sources = await db.rows<{ channel: string; source: string }>(
        sql`select channel, source from checkpoint_writes where thread_id = ${thread_id} and source is not null`,
      )
      const needed = new Set<string>()
      for (const { checkpoint } of points)
        for (const [channel, version] of Object.entries(checkpoint.channel_versions))
          needed.add(`${channel} ${version}`)
      for (const key of needed) {
        const base = values.find(({ channel, version }) => key === `${channel} ${version}`)?.base
        if (base) needed.add(`items ${base}`)
      }
      for (const { channel, source } of sources) needed.add(`${channel} ${source}`)
      return {
        excerpts: sources.length,
        unneeded: values.filter(({ channel, version }) => !needed.has(`${channel} ${version}`)),
      }
    },
  }
}

const step: fc.Arbitrary<Step> = fc.record({
  tasks: fc.array(fc.record({ messages: fc.nat(2), text: fc.boolean() }), { minLength: 1, maxLength: 3 }),
  together: fc.boolean(),
})
const steps = fc.array(step, { minLength: 1, maxLength: 4 })
const act = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('run' as const), steps }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('fork' as const), at: fc.nat(), steps }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('roll_back' as const), at: fc.nat(), steps }) },
  fc.record({ do: fc.constant('prune' as const) }),
  fc.record({ do: fc.constant('sweep' as const) }),
)

const keys = parseAesKeys(`key:${Buffer.alloc(32, 7).toString('base64')}`)

describe.each(kinds.flatMap((kind) => [false, true].map((sealed) => ({ kind, sealed }))))(
  'writes on $kind, encrypted: $sealed',
  ({ kind, sealed }) => {
    let db: Database
    beforeAll(async () => {
      db = await openEmpty(kind, sealed ? keys : undefined)
    })
    afterAll(() => db.close())

    test('read as they were at every checkpoint, and keep the values that they were taken from', async () => {
      let excerpts = 0
      await fc.assert(
        fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 10 }), async (acts) => {
          const thread = await openThread(db)
          for (const one of acts) {
            const known = [...thread.expected.keys()]
            const from = 'at' in one ? known[one.at % Math.max(known.length, 1)] : undefined
            if (one.do === 'run' || one.do === 'fork') await thread.run(from, one.steps)
            if (one.do === 'roll_back') await thread.rollBack(await thread.run(from, one.steps))
            if (one.do === 'prune') await thread.prune()
            if (one.do === 'sweep') await retention.sweepLeftovers(db)
          }
          const all = Object.fromEntries([...thread.expected].map(([id, of]) => [id, meant(of)]))
          expect(await thread.listed()).toEqual(all)
          expect(await thread.copied()).toEqual(all)
          await retention.sweepLeftovers(db)
          for (const [id, one] of Object.entries(all)) expect(await thread.one(id)).toEqual(one)
          for (const [id, writes] of await thread.history())
            expect(writes).toEqual(meant(thread.expected.get(id) as Expected, 'items').writes)
          const texts = [...thread.expected.values()].flatMap(({ writes }) => [...writes.values()])
          expect(await thread.leftOut()).toBe(texts.filter(({ channel }) => channel === 'text').length)
          const stored = await thread.stored()
          expect(stored.unneeded).toEqual([])
          excerpts += stored.excerpts
        }),
        { numRuns: 30, timeout: 60_000 },
      )
      expect(excerpts).toBeGreaterThan(30)
    }, 120_000)

    test('outlast the checkpoint that has the value that they were taken from', async () => {
      const thread = await openThread(db)
      await thread.run(undefined, [{ tasks: [{ messages: 1, text: true }], together: true }])
      const [first, second] = [...thread.expected.keys()] as [string, string]
      await db.rows(sql`delete from checkpoints where checkpoint_id = ${second}`)
      await db.rows(sql`update threads set leftovers = true where thread_id = ${thread.thread_id}`)
      while ((await retention.sweepLeftovers(db)) > 0);
      expect((await thread.stored()).excerpts).toBe(2)
      expect(await thread.one(first)).toEqual(meant(thread.expected.get(first) as Expected))
    })

    test('take little place beside the values that they went into, and are counted with what they take', async () => {
      const thread = await openThread(db)
      const once = { tasks: [{ messages: 1, text: true }], together: true }
      await thread.run(
        undefined,
        Array.from({ length: 20 }, () => once),
      )
      const { thread_id } = thread
      const { pending_writes, channel_values } = await retention.measure(db, thread_id, all)
      expect(pending_writes.count).toBe(40)
      expect(pending_writes.bytes).toBeLessThan(channel_values.bytes / (sealed ? 1.5 : 3))
      const [row] = await db.rows<{ bytes: number }>(sql`
      select sum(octet_length(bytes) + octet_length(source)) as bytes from checkpoint_writes
      where thread_id = ${thread_id}`)
      expect(pending_writes.bytes).toBe(row?.bytes)
    }, 60_000)
  },
)
