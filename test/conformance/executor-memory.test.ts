// What an executor knows of a thread whose run has just ended in it: both kinds read nothing that they wrote themselves, and
// go by nothing that may have changed.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { StoredCheckpoint } from '../../src/executor/stored.ts'
import { checkpointSize, createThreadMemory } from '../../src/executor/thread-memory.ts'
import { type Bench, sources, startBench, valuesOf } from '../support/executors.ts'

const human = (content: string) => ({ messages: [{ role: 'user', content, id: content }] })

describe.each(['child', 'inline'] as const)('the %s executor', (mode) => {
  let bench: Bench
  beforeAll(async () => {
    bench = await startBench(mode, sources('echo', 'ask', 'beside', 'rewrite'))
  })
  afterAll(() => bench.executor.close())

  const reads = () => bench.memory.calls['checkpoint.get'] ?? 0
  const contents = (values: unknown) => (values as { messages: { content: string }[] }).messages.map((m) => m.content)

  test('reads nothing that the run before left in it, and reads when anything may have changed since', async () => {
    const thread_id = crypto.randomUUID()
    await bench.run('echo', { input: human('one') }, { thread_id, fresh: true, epoch: 1 })
    const before = reads()
    const second = await bench.run('echo', { input: human('two') }, { thread_id, epoch: 2, continues: true })
    expect(reads()).toBe(before)
    expect(contents(valuesOf(second.outcome))).toEqual(['one', 'echo: one', 'two', 'echo: two'])
    const third = await bench.run('echo', { input: human('three') }, { thread_id, epoch: 3, continues: false })
    expect(reads()).toBe(before + 1)
    // Another process had the thread in between.
    const fourth = await bench.run('echo', { input: human('four') }, { thread_id, epoch: 5, continues: true })
    expect(reads()).toBe(before + 2)
    const all = ['one', 'two', 'three', 'four'].flatMap((said) => [said, `echo: ${said}`])
    expect(contents(valuesOf(third.outcome))).toEqual(all.slice(0, 6))
    expect(contents(valuesOf(fourth.outcome))).toEqual(all)
  })

  test('says the same of a thread whether it remembers what it last said of it or not', async () => {
    const said = ['first', 'edit 0', 'more', 'edit 2', 'replace 1', 'drop 0', 'edit 4', 'drop 3', 'last']
    const tell = async (everyEpoch: number) => {
      const thread_id = crypto.randomUUID()
      const told: unknown[] = []
      for (const [i, content] of said.entries()) {
        const messages = [{ role: 'user', content, id: `${i}` }]
        if (i === 0) messages.unshift({ role: 'user', content: 'ü😀'.repeat(3_000), id: 'long' })
        const more = { thread_id, epoch: 1 + i * everyEpoch, fresh: i === 0, continues: i > 0 && everyEpoch === 1 }
        const { outcome, events } = await bench.run('rewrite', { input: { messages }, stream_mode: ['values'] }, more)
        told.push(
          events.map(({ data }) => JSON.parse(data)),
          valuesOf(outcome),
        )
      }
      return told
    }
    const told = await tell(1)
    expect(told).toEqual(await tell(2))
    const last = (told.at(-1) as { messages: { content: string }[] }).messages.map(({ content }) => content)
    expect(last).toContain('replaced')
    expect(last.some((content) => content.endsWith('edited in place'))).toBe(true)
  })

  test('an answer to an interrupt finds the task that waits for it, without reading', async () => {
    const thread_id = crypto.randomUUID()
    await bench.run('ask', { input: {} }, { thread_id, fresh: true, epoch: 1 })
    const before = reads()
    const { outcome } = await bench.run('ask', { command: { resume: 'yes' } }, { thread_id, epoch: 2, continues: true })
    expect(outcome.kind).toBe('success')
    expect(valuesOf(outcome)).toMatchObject({ answer: 'yes' })
    expect(reads()).toBe(before)
  })

  test('what a task had done beside one that asked is not lost with the answer', async () => {
    const thread_id = crypto.randomUUID()
    await bench.run('beside', { input: { log: [] } }, { thread_id, fresh: true, epoch: 1 })
    const command = { resume: 'yes' }
    const { outcome } = await bench.run('beside', { command }, { thread_id, epoch: 2, continues: true })
    expect(valuesOf(outcome)).toEqual({ log: ['heard yes', 'worked'] })
  })
})

const stored = (checkpoint_id: string, bytes: number): StoredCheckpoint => ({
  thread_id: 't',
  checkpoint_ns: '',
  checkpoint_id,
  parent_checkpoint_id: null,
  checkpoint: {},
  metadata: {},
  values: [{ channel: 'c', blob: { type: 'bytes', bytes: new Uint8Array(bytes) } }],
  writes: [],
})

test('it remembers the threads that ran last, within its bounds', () => {
  const memory = createThreadMemory(100_000, checkpointSize)
  for (const thread of ['a', 'b', 'c']) memory.keep(thread, 1, stored(thread, 40_000))
  expect(memory.recall('a', 2)).toBeUndefined()
  expect(memory.recall('b', 2)?.checkpoint_id).toBe('b')
  memory.keep('d', 1, stored('d', 60_000))
  expect(memory.recall('d', 2)).toBeUndefined()
  expect(memory.recall('c', 2)?.checkpoint_id).toBe('c')
  memory.keep('c', 2, undefined)
  expect(memory.recall('c', 3)).toBeUndefined()
})
