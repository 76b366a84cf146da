// A thread's state through the official client.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { eachNotesServer, failure } from './nouns.ts'

interface Notes {
  log: string[]
  topic: string
}

eachNotesServer((stack) => {
  const run = (threadId: string, input: Record<string, unknown>) => stack.client.runs.wait(threadId, 'notes', { input })
  const ran = async (input: Record<string, unknown>) => {
    const { thread_id } = await stack.client.threads.create()
    await run(thread_id, input)
    return thread_id
  }
  const state = (threadId: string, ...more: [checkpoint?: string]) =>
    stack.client.threads.getState<Notes>(threadId, ...more)

  test('a thread on which nothing has run has an empty state', async () => {
    const { threads } = stack.client
    for (const thread of [await threads.create(), await threads.create({ graphId: 'notes' })]) {
      const now = await state(thread.thread_id)
      expect(now).toMatchObject({ next: [], tasks: [], created_at: null, parent_checkpoint: null, interrupts: [] })
      expect(now.values).toEqual({})
      expect(await threads.getHistory(thread.thread_id)).toEqual([])
      expect(await failure(state(thread.thread_id, v7()))).toMatchObject({ status: 404, code: 'checkpoint_not_found' })
    }
  })

  test('the state after a run says what was made, and from which checkpoint', async () => {
    const id = await ran({ topic: 'a' })
    const now = await state(id)
    expect(now.values).toMatchObject({ topic: 'a', log: ['wrote a', 'reviewed'] })
    expect(now.next).toEqual([])
    expect(now.checkpoint).toMatchObject({ thread_id: id, checkpoint_ns: '' })
    expect(now.parent_checkpoint?.checkpoint_id).toBeTypeOf('string')
    expect((await stack.client.threads.get(id)).values).toEqual(now.values)
  })

  test('a run goes on from what a change of the state left, not from what the run before left', async () => {
    const id = await ran({ topic: 'a' })
    await run(id, { topic: 'b' })
    await stack.client.threads.updateState(id, { values: { log: ['changed'] } })
    expect(await run(id, { topic: 'c' })).toMatchObject({
      log: ['wrote a', 'reviewed', 'wrote b', 'reviewed', 'changed', 'wrote c', 'reviewed'],
    })
    await stack.client.threads.patchState(id, { mark: 1 })
    expect(await run(id, { topic: 'd' })).toMatchObject({ topic: 'd' })
  })

  test('a thread made anew under the id of a deleted one knows nothing of that', async () => {
    const id = await ran({ topic: 'a' })
    await stack.client.threads.delete(id)
    await stack.client.threads.create({ threadId: id, graphId: 'notes' })
    await stack.client.threads.updateState(id, { values: { log: ['new'] } })
    expect(await run(id, { topic: 'b' })).toMatchObject({ log: ['new', 'wrote b', 'reviewed'] })
  })

  test('the history is the way there, newest first, and can be paged and filtered', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a' })
    const history = await threads.getHistory<Notes>(id)
    expect(history.map((each) => each.next)).toEqual([[], ['deepen'], ['review'], ['write'], ['__start__']])
    expect(history.map((each) => each.values.log?.length ?? 0)).toEqual([2, 2, 1, 0, 0])
    const [first, second] = await threads.getHistory(id, { limit: 2 })
    expect([first, second]).toEqual(history.slice(0, 2))
    const before = { configurable: { checkpoint_id: second?.checkpoint.checkpoint_id } }
    expect(await threads.getHistory(id, { before })).toEqual(history.slice(2))
    const answer = await stack.fetch(`/threads/${id}/history?limit=1&before=${second?.checkpoint.checkpoint_id}`)
    expect(await answer.json()).toEqual(history.slice(2, 3))
    const inputs = await threads.getHistory(id, { metadata: { source: 'input' } })
    expect(inputs).toEqual(history.slice(-1))
    for (const each of history) {
      const at = each.checkpoint.checkpoint_id as string
      expect((await state(id, at)).values).toEqual(each.values)
    }
  })

  test('parts of a state are selected by name', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a' })
    expect(await threads.getState(id, undefined, { select: ['next', 'values.topic'] })).toEqual({
      next: [],
      values: { topic: 'a' },
    })
    const [newest] = await threads.getHistory(id, { limit: 1, select: ['next'] })
    expect(newest).toEqual({ next: [] })
    expect(await failure(threads.getState(id, undefined, { select: ['secret' as 'next'] }))).toMatchObject({
      status: 422,
    })
  })

  test('an update goes through the reducers, as the node that is named', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a' })
    const before = await state(id)
    const made = await threads.updateState(id, { values: { log: ['by hand'] }, asNode: 'write' })
    const now = await state(id)
    expect(made.configurable).toEqual(now.checkpoint)
    expect(now.values.log).toEqual(['wrote a', 'reviewed', 'by hand'])
    expect(now.next).toEqual(['review'])
    expect(now.parent_checkpoint?.checkpoint_id).toBe(before.checkpoint.checkpoint_id)
    expect(now.metadata).toMatchObject({ source: 'update' })
    expect(await threads.get(id)).toMatchObject({ status: 'interrupted', values: now.values })
    const ended = (await stack.client.runs.wait(id, 'notes')) as unknown as Notes
    expect(ended.log).toEqual(['wrote a', 'reviewed', 'by hand', 'reviewed'])
    expect((await threads.get(id)).status).toBe('idle')
  })

  test('an update of an older checkpoint forks the thread', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a' })
    const history = await threads.getHistory<Notes>(id)
    const old = history.find((each) => each.next[0] === 'review')?.checkpoint.checkpoint_id as string
    await threads.updateState(id, { values: { topic: 'b' }, checkpointId: old, asNode: 'write' })
    const now = await state(id)
    expect(now).toMatchObject({ next: ['review'], values: { topic: 'b', log: ['wrote a'] } })
    expect(now.parent_checkpoint?.checkpoint_id).toBe(old)
    expect((await state(id, old)).values.topic).toBe('a')
  })

  test('updates at the same time are all there in the end', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a' })
    const added = ['x', 'y', 'z']
    await Promise.all(added.map((text) => threads.updateState(id, { values: { log: [text] }, asNode: 'write' })))
    expect((await state(id)).values.log.slice(2).sort()).toEqual(added)
  })

  test('a thread is made with a state that supersteps build', async () => {
    const { threads } = stack.client
    const supersteps = [
      { updates: [{ values: { topic: 'a' }, asNode: '__input__' }] },
      { updates: [{ values: { topic: 'a' }, asNode: '__start__' }] },
      { updates: [{ values: { log: ['one'] }, asNode: 'write' }] },
      { updates: [{ values: { log: ['two'] }, asNode: 'review' }] },
    ]
    const thread = await threads.create({ graphId: 'notes', supersteps })
    expect(thread).toMatchObject({ status: 'interrupted', values: { topic: 'a', log: ['one', 'two'] } })
    expect((await state(thread.thread_id)).next).toEqual(['deepen'])
    expect(await threads.getHistory(thread.thread_id)).toHaveLength(4)
    const threadId = v7()
    expect(await failure(threads.create({ threadId, supersteps }))).toMatchObject({ status: 422 })
    const wrong = [{ updates: [{ values: {}, asNode: 'nobody' }] }]
    const refused = await failure(threads.create({ threadId, graphId: 'notes', supersteps: wrong }))
    expect(refused).toMatchObject({ status: 422, code: 'invalid_update' })
    expect(await failure(threads.get(threadId))).toMatchObject({ status: 404 })
  })

  test('what cannot be updated is refused, and nothing has changed', async () => {
    const { threads, runs } = stack.client
    const fresh = await threads.create()
    const update = { values: { log: ['x'] } }
    expect(await failure(threads.updateState(fresh.thread_id, update))).toMatchObject({
      status: 422,
      code: 'graph_has_no_state',
    })
    const id = await ran({ topic: 'a' })
    const before = await threads.getHistory(id)
    const nobody = await failure(threads.updateState(id, { ...update, asNode: 'nobody' }))
    expect(nobody).toMatchObject({ status: 422, code: 'invalid_update', detail: expect.stringContaining('nobody') })
    const waiting = await runs.create(id, 'notes', { input: {}, afterSeconds: 3600 })
    expect(await failure(threads.updateState(id, { ...update, asNode: 'write' }))).toMatchObject({
      status: 409,
      code: 'thread_busy',
    })
    expect(await threads.getHistory(id)).toEqual(before)
    await runs.cancel(id, waiting.run_id)
    await threads.updateState(id, { ...update, asNode: 'write' })
    expect(await threads.getHistory(id)).toHaveLength(before.length + 1)
  })

  test('metadata is merged into the latest checkpoint', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a' })
    const before = await state(id)
    await threads.patchState(id, { reviewed: true })
    const now = await state(id)
    expect(now.metadata).toEqual({ ...before.metadata, reviewed: true })
    expect(now.checkpoint).toEqual(before.checkpoint)
    const fresh = await threads.create()
    expect(await failure(threads.patchState(fresh.thread_id, {}))).toMatchObject({ status: 404 })
  })

  test('the state of a subgraph that waits is told, and can be read by its namespace', async () => {
    const { threads } = stack.client
    const id = await ran({ topic: 'a', ask: 'inner' })
    const now = await threads.getState<Notes>(id, undefined, { subgraphs: true })
    expect(now.next).toEqual(['deepen'])
    const task = now.tasks[0]
    expect(task).toMatchObject({ name: 'deepen', interrupts: [{ value: { question: 'inner?' } }] })
    expect(task?.state).toMatchObject({ next: ['think'], values: { ask: 'inner' } })
    const checkpoint = task?.state?.checkpoint
    expect(checkpoint?.checkpoint_ns).toMatch(/^deepen:/)
    const inside = await threads.getState(id, { ...checkpoint, checkpoint_id: undefined } as never)
    expect(inside).toMatchObject({ next: ['think'], values: { ask: 'inner' } })
    const history = await threads.getHistory(id, { checkpoint: { checkpoint_ns: checkpoint?.checkpoint_ns } as never })
    expect(history[0]).toMatchObject({ next: ['think'] })
    expect(Object.values((await threads.get(id)).interrupts)[0]).toMatchObject([{ value: { question: 'inner?' } }])
  })
})
