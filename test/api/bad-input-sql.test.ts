import { describe, expect, test } from 'vitest'
import { type Operation, operations } from '../support/operations.ts'
import { expectUnharmed, fault, hostileServer, JSON_TYPE } from './bad-input-server.ts'

const hostile = hostileServer()
const client = () => hostile.server.client

// Strings that mean something to SQL, to patterns, to JSON paths, to query languages or to JavaScript.
const texts = [
  "x') or '1'='1",
  "'; drop table threads; --",
  '"; select pg_sleep(10); --',
  "a->>'b'",
  "metadata @> '{}'",
  "$1::jsonb) or true or ($1 = '",
  '$$;$$',
  '%',
  '_',
  'a%',
  '\\',
  "\\'; --",
  '{',
  '}",{"a":"b',
  '$where',
  '$.**',
  '@-[(|)]~*',
  '? :name @> ?| ?&',
  'a.b[0]',
  '__proto__x',
  'constructor',
  'toString',
  `$\{7*7}{{7*7}}`,
  '\u2028\u202e\ufeff',
  '💩é\u{10ffff}',
  '\r\n\t\b',
]
const titles = texts.map((text) => [JSON.stringify(text), text] as const)

describe('a string that means something to somebody is only a string', () => {
  test.each(titles)('as key and value of metadata: %s', async (_, text) => {
    const { threads, assistants } = client()
    const metadata = { [text]: text }
    const { thread_id } = await threads.create({ metadata })
    expect((await threads.search({ metadata })).map((one) => one.thread_id)).toEqual([thread_id])
    expect(await threads.count({ metadata })).toBe(1)
    expect(await threads.search({ metadata: { [text]: `${text}!` } })).toEqual([])
    expect((await threads.update(thread_id, { metadata: { [`${text}2`]: [text] } })).metadata).toEqual({
      [text]: text,
      [`${text}2`]: [text],
    })
    const { assistant_id } = await assistants.create({ graphId: 'notes', metadata, name: `${text}·` })
    expect((await assistants.search({ metadata })).map((one) => one.assistant_id)).toEqual([assistant_id])
    expect(await assistants.count({ metadata })).toBe(1)
    expect((await assistants.getVersions(assistant_id, { metadata })).map(({ version }) => version)).toEqual([1])
    expect(await assistants.getVersions(assistant_id, { metadata: { [text]: 1 } })).toEqual([])
    expect((await assistants.search({ name: `${text}·` })).map((one) => one.assistant_id)).toEqual([assistant_id])
    expect(await threads.getHistory(String(hostile.known.thread_id), { metadata })).toEqual([])
  })

  test.each(titles)('as namespace, key, value and filter of the store: %s', async (_, text) => {
    const { store } = client()
    const label = text.replaceAll('.', '·')
    await store.putItem(['all', label], text, { [text]: text })
    expect((await store.getItem(['all', label], text))?.value).toEqual({ [text]: text })
    const found = async (filter: Record<string, unknown>) =>
      (await store.searchItems(['all'], { filter, limit: 100 })).items.map(({ key }) => key)
    expect(await found({ [text]: text })).toEqual([text])
    expect(await found({ [text]: `${text}!` })).toEqual([])
    if (!text.startsWith('$')) expect(await found({ [text]: { $eq: text } })).toEqual([text])
    expect((await store.searchItems(['all', label])).items.map(({ key }) => key)).toEqual([text])
    expect((await store.listNamespaces({ prefix: ['all', label] })).namespaces).toEqual([['all', label]])
    expect((await store.listNamespaces({ suffix: [label] })).namespaces).toEqual([['all', label]])
    await store.deleteItem(['all', label], text)
    expect(await found({ [text]: text })).toEqual([])
  })

  test.each(titles)('in the values of a thread: %s', async (_, text) => {
    const { runs, threads } = client()
    const { thread_id } = await threads.create()
    expect(await runs.wait(thread_id, 'notes', { input: { topic: text } })).toMatchObject({ topic: text })
    const body = { values: { topic: text }, select: ['thread_id'], extract: { [text]: 'values.topic' } }
    const answer = await hostile.server.request('POST', '/threads/search', body)
    expect(await answer.json()).toEqual([{ thread_id, extracted: { [text]: text } }])
    expect((await threads.getState(thread_id)).values).toMatchObject({
      topic: text,
      log: [`wrote ${text}`, 'reviewed'],
    })
  })

  test.each(titles)('as a field to sort by, to select or to extract it is refused: %s', async (_, text) => {
    for (const noun of ['threads', 'assistants']) {
      for (const [field, value] of [
        ['sort_by', text],
        ['sort_order', text],
        ['select', [text]],
        ...(noun === 'threads'
          ? [
              ['status', text],
              ['extract', { a: text }],
              ['extract', { a: `values.x[${text}]` }],
            ]
          : []),
      ] as const) {
        const body = JSON.stringify({ [field as string]: value })
        const answer = await hostile.send({ method: 'POST', path: `/${noun}/search`, headers: JSON_TYPE, body })
        const detail = new RegExp(`^body\\.${field}`)
        expect(fault(answer, { status: 422, code: 'validation_failed', detail }), `${noun} ${body}`).toBeUndefined()
      }
    }
  })
})

// What JavaScript and LangChain would take for more than data.
const traps = {
  constructor: { prototype: { polluted: 1 }, name: 'x' },
  toString: 1,
  valueOf: null,
  hasOwnProperty: 'no',
  // biome-ignore lint/suspicious/noThenProperty: that is what is tried
  then: 'not a promise',
  toJSON: 'not a function',
  length: 1e9,
  0: 'index',
  secret: { lc: 1, type: 'secret', id: ['PATH'] },
  made: { lc: 1, type: 'constructor', id: ['langchain_core', 'messages', 'HumanMessage'], kwargs: { content: 'x' } },
  revived: { lc: 2, type: 'constructor', id: ['Error'], method: null, args: ['x'] },
  undefined: { lc: 2, type: 'undefined' },
}

describe('keys with a meaning to JavaScript or LangChain are data', () => {
  test('in metadata, merged too', async () => {
    const { threads, assistants } = client()
    const { thread_id } = await threads.create({ metadata: traps })
    expect((await threads.get(thread_id)).metadata).toEqual(traps)
    const changed = { constructor: { prototype: 2 }, more: true }
    expect((await threads.update(thread_id, { metadata: changed })).metadata).toEqual({ ...traps, ...changed })
    const { assistant_id } = await assistants.create({
      graphId: 'notes',
      metadata: traps,
      context: traps,
      config: { configurable: traps },
    })
    expect(await assistants.get(assistant_id)).toMatchObject({ metadata: traps, context: traps })
    expect((await assistants.get(assistant_id)).config.configurable).toEqual(traps)
    const { run_id } = await client().runs.create(thread_id, assistant_id, { input: { topic: 'x' }, metadata: changed })
    await client().runs.join(thread_id, run_id)
    const run = await client().runs.get(thread_id, run_id)
    expect(run.status).toBe('success')
    expect(run.metadata).toMatchObject({ ...traps, ...changed })
  })

  test('in items of the store', async () => {
    const { store } = client()
    await store.putItem(['traps'], 'item', traps)
    expect((await store.getItem(['traps'], 'item'))?.value).toEqual(traps)
    expect((await store.searchItems(['traps'], { filter: { hasOwnProperty: 'no' } })).items.length).toBe(1)
  })

  test('in what runs and state updates are given', async () => {
    const { runs, threads } = client()
    const { thread_id } = await threads.create()
    const said = { given: traps, again: traps }
    expect(await runs.wait(thread_id, 'echo', { input: { given: traps } })).toEqual(said)
    expect((await runs.list(thread_id))[0]).toMatchObject({ kwargs: { input: { given: traps } } })
    expect((await threads.getState(thread_id)).values).toEqual(said)
    await threads.updateState(thread_id, { values: { again: [traps] }, asNode: 'repeat' })
    expect((await threads.getState(thread_id)).values).toEqual({ given: traps, again: [traps] })
    expect((await threads.get(thread_id)).values).toEqual({ given: traps, again: [traps] })
  })
})

test('what is large but within the limits is kept', async () => {
  const { threads, store, assistants } = client()
  const long = 'é'.repeat(500_000)
  const metadata = { [long]: long, deep: JSON.parse('['.repeat(190) + ']'.repeat(190)) }
  const { thread_id } = await threads.create({ metadata })
  expect((await threads.search({ metadata })).map((one) => one.thread_id)).toEqual([thread_id])
  const labels = Array.from({ length: 4 }, () => '💩'.repeat(128))
  await expect(store.putItem(labels, 'k', { a: 1 })).rejects.toThrow('2048 bytes')
  await store.putItem(labels.slice(1), '💩'.repeat(128), { long })
  expect((await store.getItem(labels.slice(1), '💩'.repeat(128)))?.value).toEqual({ long })
  const name = '💩'.repeat(256)
  const { assistant_id } = await assistants.create({ graphId: 'notes', name, description: 'd'.repeat(65_536) })
  expect((await assistants.search({ name: name.slice(2) })).map((one) => one.assistant_id)).toEqual([assistant_id])
})

test('numbers come back as they were sent', async () => {
  const numbers = [
    0, 1e-7, 5e-324, 1.7976931348623157e308, 0.1, 9007199254740991, -9007199254740991, 1e21, 123456789.123456,
  ]
  const { thread_id } = await client().threads.create({ metadata: { numbers } })
  expect((await client().threads.get(thread_id)).metadata).toEqual({ numbers })
})

describe('pages', () => {
  const paged = operations.filter(({ body }) => body?.properties?.limit !== undefined)
  const send = async (operation: Operation, page: object) =>
    hostile.send({
      method: operation.method,
      path: hostile.pathOf(operation),
      headers: JSON_TYPE,
      body: JSON.stringify(page),
    })

  test.each(paged.map((one) => [one.title, one] as const))('have bounds: %s', async (_, operation) => {
    for (const limit of [-1, 0, 1.5, 1001, 1e20, '10', [10], 9007199254740991])
      expect(
        fault(await send(operation, { limit }), { status: 422, detail: /^body\.limit/ }),
        `${limit}`,
      ).toBeUndefined()
    expect((await send(operation, { limit: 1000 })).status).toBe(200)
    if (!operation.body?.properties?.offset) return
    for (const offset of [-1, 0.5, 1e20, '0'])
      expect(
        fault(await send(operation, { offset }), { status: 422, detail: /^body\.offset/ }),
        `${offset}`,
      ).toBeUndefined()
    const { status, text } = await send(operation, { offset: Number.MAX_SAFE_INTEGER })
    expect([status, Object.values(JSON.parse(text)).flat()]).toEqual([200, []])
  })

  test('of runs have the same', async () => {
    const path = `/threads/${hostile.known.thread_id}/runs`
    const { status, text } = await hostile.send({ method: 'GET', path: `${path}?limit=1000&offset=999999999999999` })
    expect([status, text]).toEqual([200, '[]'])
  })
})

describe('what a run is started with', () => {
  test('keeps no secret of a header, and nothing that the server says itself', async () => {
    const { runs, threads } = client()
    const [{ thread_id }, other] = [await threads.create(), await threads.create()]
    const names = ['authorization', 'cookie', 'proxy-authorization', 'x-api-key', 'x-service-key', 'x-tenant-id']
    const headers = { ...Object.fromEntries(names.map((name) => [name, 'hunter2'])), 'x-team': 'blue' }
    const configurable = { thread_id: other.thread_id, run_id: 'mine', checkpoint_ns: 'x', graph_id: 'y', tone: 'warm' }
    const body = { assistant_id: 'echo', input: { given: 1 }, config: { configurable } }
    const answer = await hostile.server.request('POST', `/threads/${thread_id}/runs`, body, headers)
    const { run_id } = (await answer.json()) as { run_id: string }
    await runs.join(thread_id, run_id)
    const { kwargs } = (await runs.get(thread_id, run_id)) as unknown as {
      kwargs: { config: { configurable: object } }
    }
    expect(kwargs.config.configurable).toMatchObject({
      tone: 'warm',
      'x-team': 'blue',
      thread_id,
      run_id,
      graph_id: 'echo',
    })
    const history = await threads.getHistory(thread_id)
    expect(history.length).toBe(3)
    expect(JSON.stringify([kwargs, history, await threads.get(thread_id)])).not.toMatch(/hunter2|"mine"/)
    expect((await threads.getState(other.thread_id)).values).toEqual({})
  })

  test.each(['__pregel_checkpointer', '__pregel_resuming', 'langgraph_auth_user', 'langgraph_auth_user_id'])(
    'cannot be told %s',
    async (name) => {
      const body = JSON.stringify({ assistant_id: 'echo', config: { configurable: { [name]: 'x' } } })
      const answer = await hostile.send({ method: 'POST', path: '/runs', headers: JSON_TYPE, body })
      const detail = new RegExp(`^body\\.config\\.configurable\\.${name}`)
      expect(fault(answer, { status: 422, detail })).toBeUndefined()
    },
  )
})

test('after all of it, nothing is harmed', async () => {
  expectUnharmed(hostile)
  expect(await client().threads.count()).toBeGreaterThan(50)
})
