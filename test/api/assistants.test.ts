// Assistants through the official client.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { eachNotesServer, failure } from './nouns.ts'

eachNotesServer((stack) => {
  const make = (of: Record<string, unknown> = {}) => stack.client.assistants.create({ graphId: 'notes', ...of })

  test('an assistant is made with defaults for all that is not said', async () => {
    const made = await make()
    expect(made).toEqual({
      assistant_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      graph_id: 'notes',
      name: 'Untitled',
      description: null,
      config: {},
      context: null,
      metadata: {},
      version: 1,
      created_at: made.created_at,
      updated_at: made.created_at,
    })
    expect(Math.abs(Date.parse(made.created_at) - Date.now())).toBeLessThan(60_000)
    expect(await stack.client.assistants.get(made.assistant_id)).toEqual(made)
  })

  test('an assistant keeps everything that it was made with', async () => {
    const given = {
      name: 'Ünï',
      description: 'says things',
      config: { tags: ['t'], recursion_limit: 7, configurable: { model: 'm', deep: { z: 1, a: [2] } } },
      context: { user: 'ann' },
      metadata: { team: 'a', 'odd key': null },
    }
    expect(await make(given)).toMatchObject({ ...given, graph_id: 'notes', version: 1 })
  })

  test('a graph id is an assistant id everywhere', async () => {
    const own = await stack.client.assistants.get('notes')
    expect(own).toMatchObject({ graph_id: 'notes', name: 'notes', metadata: { created_by: 'system' } })
    expect(await stack.client.assistants.get(own.assistant_id)).toEqual(own)
    const [version] = (await stack.client.assistants.getVersions('notes')) as unknown[]
    expect(version).toMatchObject({ assistant_id: own.assistant_id, version: 1 })
  })

  test('an id that is taken is refused, or given back when asked for', async () => {
    const first = await make({ name: 'first' })
    const again = { assistantId: first.assistant_id, name: 'second' }
    expect(await failure(make(again))).toMatchObject({ status: 409, code: 'assistant_exists' })
    expect(await make({ ...again, ifExists: 'do_nothing' })).toEqual(first)
  })

  test('what does not exist is not found', async () => {
    const { assistants } = stack.client
    const absent = { status: 404, code: 'assistant_not_found' }
    for (const id of [v7(), 'no such graph', 'a/b', '../threads', "' or 1=1"]) {
      expect(await failure(assistants.get(id))).toMatchObject(absent)
      expect(await failure(assistants.update(id, { name: 'x' }))).toMatchObject(absent)
      expect(await failure(assistants.delete(id))).toMatchObject(absent)
      expect(await failure(assistants.getVersions(id))).toMatchObject(absent)
      expect(await failure(assistants.setLatest(id, 1))).toMatchObject(absent)
      expect(await failure(assistants.getSchemas(id))).toMatchObject(absent)
    }
    const graph = { status: 404, code: 'graph_not_found' }
    expect(await failure(make({ graphId: 'nothing' }))).toMatchObject(graph)
    expect(await failure(assistants.update('notes', { graphId: 'nothing' }))).toMatchObject(graph)
  })

  test('a change makes a new version, with metadata merged and the rest replaced', async () => {
    const made = await make({ name: 'one', config: { tags: ['a'] }, metadata: { a: 1, b: 1 } })
    const changed = await stack.client.assistants.update(made.assistant_id, {
      graphId: 'notes',
      config: { configurable: { c: 1 } },
      metadata: { b: 2, c: 3 },
    })
    expect(changed).toMatchObject({
      name: 'one',
      config: { configurable: { c: 1 } },
      metadata: { a: 1, b: 2, c: 3 },
      version: 2,
      created_at: made.created_at,
    })
    expect(changed.config).not.toHaveProperty('tags')
    expect(changed.updated_at > made.updated_at).toBe(true)
  })

  test('an older version comes back whole, and the next change counts on from the highest', async () => {
    const { assistants } = stack.client
    const { assistant_id: id } = await make({ name: 'one', description: 'd', context: { c: 1 }, metadata: { m: 1 } })
    await assistants.update(id, { graphId: 'notes', name: 'two', context: { c: 2 }, metadata: { m: 2 } })
    const back = await assistants.setLatest(id, 1)
    expect(back).toMatchObject({ name: 'one', description: 'd', context: { c: 1 }, metadata: { m: 1 }, version: 1 })
    expect(await assistants.get(id)).toEqual(back)
    expect((await assistants.update(id, { graphId: 'notes', name: 'three' })).version).toBe(3)
    const versions = await assistants.getVersions(id)
    expect(versions.map((v) => [v.version, v.name])).toEqual([
      [3, 'three'],
      [2, 'two'],
      [1, 'one'],
    ])
    expect((await assistants.getVersions(id, { limit: 1, offset: 1 })).map((v) => v.version)).toEqual([2])
    expect((await assistants.getVersions(id, { metadata: { m: 2 } })).map((v) => v.version)).toEqual([2])
    expect(await failure(assistants.setLatest(id, 4))).toMatchObject({ status: 404, code: 'version_not_found' })
  })

  test('the version to go back to may stand in the query', async () => {
    const { assistant_id: id } = await make({ name: 'one' })
    await stack.client.assistants.update(id, { graphId: 'notes', name: 'two' })
    const answer = await stack.fetch(`/assistants/${id}/latest?version=1`, { method: 'POST' })
    expect(await answer.json()).toMatchObject({ version: 1, name: 'one' })
  })

  test('a search pages through what matches, in the order asked for', async () => {
    const { assistants } = stack.client
    const set = v7()
    for (const name of ['b', 'c', 'a']) await make({ name, metadata: { set, name } })
    const first = await assistants.search({ metadata: { set }, limit: 2, includePagination: true })
    expect(first.assistants.map((found) => found.name)).toEqual(['a', 'c'])
    expect(first.next).toBe('2')
    const last = await assistants.search({ metadata: { set }, limit: 2, offset: 2, includePagination: true })
    expect(last.assistants.map((found) => found.name)).toEqual(['b'])
    expect(last.next).toBeNull()
    const exact = await assistants.search({ metadata: { set }, limit: 3, includePagination: true })
    expect(exact.next).toBeNull()
    const byName = await assistants.search({ metadata: { set }, sortBy: 'name', sortOrder: 'asc', select: ['name'] })
    expect(byName).toEqual([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
    const answer = await stack.fetch('/assistants/search', { method: 'POST', json: { metadata: { set }, limit: 1 } })
    expect(answer.headers.get('x-pagination-total')).toBe('3')
  })

  test('a name is found by any part of it, literally and in any case', async () => {
    const { assistants } = stack.client
    const set = v7()
    for (const name of ['100% Sure', '100x sure', 'a_b', 'aXb']) await make({ name, metadata: { set } })
    const named = async (name: string) =>
      (await assistants.search({ metadata: { set }, name })).map((found) => found.name)
    expect(await named('0% SURE')).toEqual(['100% Sure'])
    expect(await named('a_B')).toEqual(['a_b'])
    expect(await assistants.count({ metadata: { set }, name: 'SURE' })).toBe(2)
    expect(await assistants.count({ metadata: { set }, graphId: 'notes' })).toBe(4)
    expect(await assistants.count({ metadata: { set }, graphId: 'other' })).toBe(0)
  })

  test('deleting an assistant leaves its threads, or takes them along when told to', async () => {
    const { assistants, threads } = stack.client
    const one = await make()
    const two = await make()
    const threadOf = (assistant_id: string) => threads.create({ metadata: { assistant_id } })
    const kept = await threadOf(one.assistant_id)
    const gone = await threadOf(two.assistant_id)
    await assistants.delete(one.assistant_id)
    await assistants.delete(two.assistant_id, { deleteThreads: true })
    expect(await failure(assistants.get(one.assistant_id))).toMatchObject({ status: 404 })
    expect((await threads.get(kept.thread_id)).thread_id).toBe(kept.thread_id)
    expect(await failure(threads.get(gone.thread_id))).toMatchObject({ status: 404, code: 'thread_not_found' })
  })

  test('deleting an assistant cancels its runs that have not ended', async () => {
    const { assistants, threads, runs } = stack.client
    const { assistant_id } = await make()
    const { thread_id } = await threads.create()
    const run = await runs.create(thread_id, assistant_id, { input: { topic: 'x' }, afterSeconds: 3600 })
    await assistants.delete(assistant_id)
    expect(await runs.get(thread_id, run.run_id)).toMatchObject({ status: 'interrupted' })
  })

  test('the graph is drawn, and described by its schemas', async () => {
    const { assistants } = stack.client
    const drawing = await assistants.getGraph('notes')
    expect(drawing.nodes.map((node) => node.id)).toEqual(['__start__', 'write', 'review', 'deepen', '__end__'])
    expect(drawing.edges).toContainEqual(expect.objectContaining({ source: 'write', target: 'review' }))
    const inside = await assistants.getGraph('notes', { xray: true })
    expect(inside.nodes.map((node) => node.id)).toContain('deepen:think')
    const schemas = await assistants.getSchemas('notes')
    expect(schemas).toMatchObject({ graph_id: 'notes' })
    expect(Object.keys(schemas).sort()).toEqual(
      ['config_schema', 'context_schema', 'graph_id', 'input_schema', 'output_schema', 'state_schema'].sort(),
    )
    expect(Object.keys(await assistants.getSubgraphs('notes'))).toEqual(['deepen'])
    expect(Object.keys(await assistants.getSubgraphs('notes', { namespace: 'deepen' }))).toEqual(['deepen'])
  })

  test.each([
    ['a missing graph', {}, /graph_id/],
    ['an id that is none', { graph_id: 'notes', assistant_id: 'x' }, /assistant_id/],
    ['an object for an id', { graph_id: 'notes', assistant_id: { $gt: '' } }, /assistant_id/],
    ['a list for metadata', { graph_id: 'notes', metadata: [] }, /metadata/],
    ['an unknown way with existing ones', { graph_id: 'notes', if_exists: 'replace' }, /if_exists/],
  ])('%s is refused with the field that is wrong', async (_, json, field) => {
    const answer = await stack.fetch('/assistants', { method: 'POST', json })
    expect(answer.status).toBe(422)
    expect(((await answer.json()) as { detail: string }).detail).toMatch(field)
  })
})
