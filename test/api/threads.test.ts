// Threads through the official client.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { eachNotesServer, failure } from './nouns.ts'

eachNotesServer((stack) => {
  const run = (threadId: string, input: Record<string, unknown>) => stack.client.runs.wait(threadId, 'notes', { input })
  const later = (threadId: string) =>
    stack.client.runs.create(threadId, 'notes', { input: { topic: 'later' }, afterSeconds: 3600 })
  const ids = (found: { thread_id: string }[]) => found.map((thread) => thread.thread_id)
  const made = async (...metadata: Record<string, unknown>[]) => {
    const all: string[] = []
    for (const each of metadata) all.push((await stack.client.threads.create({ metadata: each })).thread_id)
    return all
  }

  test('a new thread is idle and empty', async () => {
    const { threads } = stack.client
    const thread = await threads.create({ metadata: { a: 1 } })
    expect(thread).toMatchObject({ status: 'idle', values: null, interrupts: {}, metadata: { a: 1 }, config: {} })
    expect(await threads.get(thread.thread_id)).toEqual(thread)
    expect((await threads.create({ graphId: 'notes' })).metadata).toEqual({ graph_id: 'notes' })
  })

  test('an id that is taken is refused, or given back when asked for', async () => {
    const { threads } = stack.client
    const threadId = v7()
    const first = await threads.create({ threadId, metadata: { a: 1 } })
    expect(first.thread_id).toBe(threadId)
    expect(await failure(threads.create({ threadId }))).toMatchObject({ status: 409, code: 'thread_exists' })
    expect(await threads.create({ threadId, ifExists: 'do_nothing', metadata: { b: 1 } })).toEqual(first)
  })

  test('what does not exist is not found', async () => {
    const { threads } = stack.client
    const id = v7()
    const calls = [
      () => threads.get(id),
      () => threads.update(id, { metadata: {} }),
      () => threads.delete(id),
      () => threads.copy(id),
      () => threads.getState(id),
      () => threads.getHistory(id),
      () => threads.updateState(id, { values: {} }),
      () => threads.patchState(id, { a: 1 }),
    ]
    for (const call of calls) expect(await failure(call())).toMatchObject({ status: 404, code: 'thread_not_found' })
    expect((await stack.fetch(`/threads/${id}/storage`)).status).toBe(404)
    for (const wrong of ['x', '..%2Fassistants', '%7B%22$gt%22:%22%22%7D']) {
      expect([404, 422]).toContain((await stack.fetch(`/threads/${wrong}`)).status)
    }
  })

  test('metadata is merged, and a minimal answer has no body', async () => {
    const { threads } = stack.client
    const { thread_id, updated_at } = await threads.create({ metadata: { a: 1, b: 1 } })
    const changed = await threads.update(thread_id, { metadata: { b: 2, c: 3 } })
    expect(changed.metadata).toEqual({ a: 1, b: 2, c: 3 })
    expect(changed.updated_at > updated_at).toBe(true)
    expect(await threads.update(thread_id, { metadata: { d: 4 }, returnMinimal: true })).toBeUndefined()
    expect((await threads.get(thread_id)).metadata).toEqual({ a: 1, b: 2, c: 3, d: 4 })
  })

  test('the time to live is told only when it is asked for', async () => {
    const { threads } = stack.client
    const { thread_id } = await threads.create({ ttl: 10 })
    expect(await threads.get(thread_id)).not.toHaveProperty('ttl')
    const { ttl } = (await threads.get(thread_id, { include: ['ttl'] })) as unknown as { ttl: Record<string, string> }
    expect(ttl).toMatchObject({ strategy: 'delete', ttl_minutes: 10 })
    const minutes = (Date.parse(ttl.expires_at ?? '') - Date.now()) / 60_000
    expect(minutes).toBeGreaterThan(9)
    expect(minutes).toBeLessThan(11)
    // The client's types know only one strategy.
    const json = { ttl: { ttl: 20, strategy: 'keep_latest' } }
    expect((await stack.fetch(`/threads/${thread_id}`, { method: 'PATCH', json })).status).toBe(200)
    const changed = await threads.get(thread_id, { include: ['ttl'] })
    expect(changed).toMatchObject({ ttl: { strategy: 'keep_latest', ttl_minutes: 20 } })
    const plain = await threads.create()
    expect(await threads.get(plain.thread_id, { include: ['ttl'] })).toMatchObject({ ttl: null })
  })

  test('a search pages through what matches, in the order asked for', async () => {
    const { threads } = stack.client
    const set = v7()
    const [a, b, c] = (await made({ set, n: 1 }, { set, n: 2 }, { set, n: { deep: [1, 2] } })) as [
      string,
      string,
      string,
    ]
    expect(ids(await threads.search({ metadata: { set } }))).toEqual([c, b, a])
    expect(ids(await threads.search({ metadata: { set }, sortBy: 'created_at', sortOrder: 'asc' }))).toEqual([a, b, c])
    await threads.update(a, { metadata: { touched: true } })
    expect(ids(await threads.search({ metadata: { set }, sortBy: 'updated_at' }))).toEqual([a, c, b])
    expect(ids(await threads.search({ metadata: { set }, limit: 1, offset: 1 }))).toEqual([b])
    expect(ids(await threads.search({ metadata: { set, n: { deep: [2] } } }))).toEqual([c])
    expect(ids(await threads.search({ ids: [a, v7()] }))).toEqual([a])
    expect(await threads.search({ metadata: { set }, ids: [b], select: ['thread_id', 'status'] })).toEqual([
      { thread_id: b, status: 'idle' },
    ])
    expect(await threads.count({ metadata: { set } })).toBe(3)
    const page = async (limit: number, offset: number) => {
      const json = { metadata: { set }, limit, offset }
      const { headers } = await stack.fetch('/threads/search', { method: 'POST', json })
      return [headers.get('x-pagination-total'), headers.get('x-pagination-next')]
    }
    expect(await page(2, 0)).toEqual(['3', '2'])
    expect(await page(2, 2)).toEqual(['3', null])
    expect(await page(3, 0)).toEqual(['3', null])
    expect(await page(3, 9)).toEqual(['3', null])
  })

  test('threads are found by status and by values, and parts of them can be extracted', async () => {
    const { threads } = stack.client
    const set = v7()
    const [idle, waits, busy] = (await made({ set }, { set }, { set })) as [string, string, string]
    await run(idle, { topic: 'a' })
    await run(waits, { topic: 'b', ask: 'outer' })
    await later(busy)
    const having = async (query: Parameters<typeof threads.search>[0]) =>
      ids(await threads.search({ metadata: { set }, ...query }))
    expect(await having({ status: 'idle' })).toEqual([idle])
    expect(await having({ status: 'interrupted' })).toEqual([waits])
    expect(await having({ status: 'busy' })).toEqual([busy])
    expect(await having({ status: 'error' })).toEqual([])
    expect(await threads.count({ metadata: { set }, status: 'busy' })).toBe(1)
    expect(await having({ values: { topic: 'a' } })).toEqual([idle])
    const extract = { last: 'values.log[-1]', topic: 'values.topic', graph: 'metadata.graph_id', none: 'values.x[3].y' }
    const [found] = await threads.search({ ids: [idle], select: ['thread_id'], extract })
    const extracted = { last: 'reviewed', topic: 'a', graph: 'notes', none: null }
    expect(found).toEqual({ thread_id: idle, extracted })
    const [waiting] = await threads.search({ ids: [waits] })
    const [interrupts] = Object.values(waiting?.interrupts ?? {})
    expect(interrupts).toMatchObject([{ value: { question: 'outer?' } }])
    const wrong = await failure(threads.search({ extract: { x: 'kwargs.secret' } }))
    expect(wrong).toMatchObject({ status: 422, detail: expect.stringContaining('extract') })
    const many = Object.fromEntries(Array.from({ length: 11 }, (_, n) => [`k${n}`, 'values']))
    expect(await failure(threads.search({ extract: many }))).toMatchObject({ status: 422 })
  })

  test('a thread that is deleted takes all it had along, even while a run waits on it', async () => {
    const { threads, runs } = stack.client
    const { thread_id } = await threads.create()
    await run(thread_id, { topic: 'a' })
    const waiting = await later(thread_id)
    await threads.delete(thread_id)
    expect(await failure(threads.get(thread_id))).toMatchObject({ status: 404 })
    expect(await failure(runs.get(thread_id, waiting.run_id))).toMatchObject({ status: 404 })
    await threads.create({ threadId: thread_id, graphId: 'notes' })
    expect((await threads.getState(thread_id)).values).toEqual({})
  })

  test('a copy has the history and goes its own way', async () => {
    const { threads, runs } = stack.client
    const { thread_id } = await threads.create({ metadata: { a: 1 } })
    await run(thread_id, { topic: 'a', ask: 'inner' })
    await later(thread_id)
    const copy = await threads.copy(thread_id)
    expect(copy.thread_id).not.toBe(thread_id)
    expect(copy).toMatchObject({ status: 'interrupted', metadata: { a: 1, thread_id: copy.thread_id } })
    const [before, after] = [await threads.getHistory(thread_id), await threads.getHistory(copy.thread_id)]
    expect(after.map((s) => s.checkpoint.checkpoint_id)).toEqual(before.map((s) => s.checkpoint.checkpoint_id))
    expect(after.map((s) => s.values)).toEqual(before.map((s) => s.values))
    expect(await runs.list(copy.thread_id)).toEqual([])
    const ended = await runs.wait(copy.thread_id, 'notes', { command: { resume: 'yes' } })
    expect(ended).toMatchObject({ thought: 'yes' })
    expect((await threads.getState(thread_id)).next).toEqual(['deepen'])
  })

  test('the storage of a thread is measured, and pruning makes it less without losing the state', async () => {
    const { threads } = stack.client
    const { thread_id } = await threads.create()
    for (const topic of ['a', 'b', 'c']) await run(thread_id, { topic })
    const size = async () => (await (await stack.fetch(`/threads/${thread_id}/storage`)).json()) as Sizes
    const before = await size()
    expect(before.thread_id).toBe(thread_id)
    // Of each run: five in the history, and four of the subgraph.
    expect(await threads.getHistory(thread_id, { limit: 100 })).toHaveLength(15)
    expect(before.checkpoints.count).toBe(15 + 12)
    expect(before.channel_values.by_channel.log?.versions).toBeGreaterThan(3)
    expect(before.total_bytes).toBe(
      before.checkpoints.bytes + before.channel_values.bytes + before.pending_writes.bytes,
    )
    const { values } = await threads.getState(thread_id)
    expect(await threads.prune([thread_id, v7()], { strategy: 'keep_latest' })).toEqual({ pruned_count: 1 })
    const after = await size()
    // What the subgraph did for earlier tasks is never read again.
    expect(after.checkpoints.count).toBe(1)
    expect(after.channel_values.by_channel.topic?.versions).toBe(1)
    // The log has only grown: what is left of it is in parts.
    expect(after.channel_values.bytes).toBeLessThan(before.channel_values.bytes)
    expect((await threads.getState(thread_id)).values).toEqual(values)
    const ended = (await run(thread_id, { topic: 'd' })) as unknown as { log: string[] }
    expect(ended.log.slice(-2)).toEqual(['wrote d', 'reviewed'])
    expect(await threads.prune([thread_id])).toEqual({ pruned_count: 1 })
    expect(await failure(threads.get(thread_id))).toMatchObject({ status: 404 })
  })
})

interface Sizes {
  thread_id: string
  total_bytes: number
  checkpoints: { count: number; bytes: number }
  channel_values: { count: number; bytes: number; by_channel: Record<string, { versions: number; bytes: number }> }
  pending_writes: { count: number; bytes: number }
}
