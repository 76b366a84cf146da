// Search by likeness, through the official client and from graph code: vectors of what is stored, scores, filters, and what
// is embedded when.

import { Annotation, END, getStore, START, StateGraph } from '@langchain/langgraph'
import { v7 } from 'uuid'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type CountingEmbed, countingEmbed, DIMS, likeness } from '../support/embeddings.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'
import { vectorStacks } from '../support/vectors.ts'
import { failure } from './nouns.ts'

const State = Annotation.Root({ ns: Annotation<string>, found: Annotation<unknown> })

/** Stores and searches with everything a node may call. */
const remember = new StateGraph(State)
  .addNode('write', async ({ ns }, config) => {
    const store = config.store ?? fail()
    await Promise.all([
      store.put([ns], 'a', { text: 'red apples', secret: 'blue moon' }, ['text']),
      store.put([ns], 'b', { text: 'blue moon' }, false),
      store.put([ns], 'c', { text: 'green pears', parts: [{ t: 'blue' }, { t: 'moon' }] }, ['parts[*].t']),
    ])
    return {}
  })
  .addNode('read', async ({ ns }) => {
    const store = getStore() ?? fail()
    const [moon, apples, one, spaces] = await store.batch([
      { namespacePrefix: [ns], query: 'moon' },
      { namespacePrefix: [ns], query: 'red apples', limit: 1 },
      { namespace: [ns], key: 'b' },
      { matchConditions: [{ matchType: 'prefix', path: [ns] }], limit: 10, offset: 0 },
    ])
    const listed = await store.listNamespaces({ prefix: [ns] })
    return { found: { moon, apples, one, spaces, listed } }
  })
  .addEdge(START, 'write')
  .addEdge('write', 'read')
  .addEdge('read', END)
  .compile()

function fail(): never {
  throw new Error('no store')
}

eachStack(
  (stack) => {
    let server: TestServer
    let embed: CountingEmbed
    const store = () => server.client.store
    const found = async (ns: string[], query: string, more: object = {}) =>
      (await store().searchItems(ns, { query, ...more })).items
    const keys = async (...asked: Parameters<typeof found>) => (await found(...asked)).map(({ key }) => key)

    beforeAll(async () => {
      embed = countingEmbed()
      server = await stack.heddle({
        graphs: { remember },
        store: { index: { dims: DIMS, embed, fields: ['text', 'chapters[*].title'] } },
      })
    })
    beforeEach(() => void embed.batches.splice(0))

    test('what is most like the query comes first, with the cosine as its score', async () => {
      const ns = [v7()]
      const texts = ['a red apple on a tree', 'a green pear', 'the moon is a red stone', 'nothing alike']
      for (const [i, text] of texts.entries()) await store().putItem(ns, `${i}`, { text })
      const items = await found(ns, 'red apple')
      expect(items[0]).toMatchObject({ key: '0', namespace: ns, value: { text: texts[0] } })
      for (const { value, score } of items) {
        expect(score).toBeCloseTo(likeness('red apple', (value as { text: string }).text), 5)
      }
      const scores = items.map(({ score }) => score ?? Number.NaN)
      expect(scores).toEqual(scores.toSorted((a, b) => b - a))
      expect(await keys(ns, 'red apple', { limit: 1, offset: 1 })).toEqual([items[1]?.key])
    })

    test('without a query the latest comes first, and nothing has a score', async () => {
      const ns = [v7()]
      await store().putItem(ns, 'old', { text: 'one' })
      await store().putItem(ns, 'new', { text: 'two' })
      const { items } = await store().searchItems(ns)
      expect(items.map(({ key }) => key)).toEqual(['new', 'old'])
      expect(items.map(({ score }) => score)).toEqual([undefined, undefined])
    })

    test('an item counts by the best of its texts, and stands once', async () => {
      const ns = [v7()]
      await store().putItem(ns, 'book', { text: 'a book', chapters: [{ title: 'whales' }, { title: 'ships' }] })
      await store().putItem(ns, 'film', { text: 'ships and more ships' })
      const items = await found(ns, 'ships')
      expect(items.map(({ key }) => key)).toEqual(['book', 'film'])
      expect(items[0]?.score).toBeCloseTo(1, 5)
    })

    test('a search by likeness keeps to its namespace, its filter and the time to live', async () => {
      const root = v7()
      await store().putItem([root, 'a'], 'in', { text: 'moon', n: 1 })
      await store().putItem([root, 'a', 'deep'], 'below', { text: 'moon', n: 2 })
      await store().putItem([root, 'ab'], 'beside', { text: 'moon', n: 1 })
      expect((await keys([root, 'a'], 'moon')).sort()).toEqual(['below', 'in'])
      expect(await keys([root], 'moon', { filter: { n: { $gt: 1 } } })).toEqual(['below'])
      await store().putItem([root, 'a'], 'in', { text: 'moon' }, { ttl: 0.0001 })
      await expect.poll(() => keys([root, 'a'], 'moon', { refreshTtl: false })).toEqual(['below'])
    })

    test('only what has changed is embedded, each text once, all of a batch together', async () => {
      const ns = [v7()]
      await store().putItem(ns, 'k', { text: 'first', chapters: [{ title: 'second' }, { title: 'first' }] })
      expect(embed.batches).toEqual([['first', 'second']])
      await store().putItem(ns, 'k', { text: 'first', chapters: [{ title: 'third' }], n: 1 })
      expect(embed.batches.slice(1)).toEqual([['third']])
      await store().putItem(ns, 'k', { text: 'third', n: 2 })
      expect(embed.batches).toHaveLength(2)
      expect(await keys(ns, 'third')).toEqual(['k'])
      expect((await found(ns, 'second'))[0]?.score).toBeCloseTo(likeness('second', 'third'), 5)
    })

    test('an item that is not to be indexed, or has no text, is stored and not found by likeness', async () => {
      const ns = [v7()]
      await store().putItem(ns, 'off', { text: 'moon' }, { index: false })
      await store().putItem(ns, 'none', { other: 'moon' })
      await store().putItem(ns, 'blank', { text: '  ' })
      expect(embed.batches).toEqual([])
      expect(await keys(ns, 'moon')).toEqual([])
      expect((await store().searchItems(ns)).items).toHaveLength(3)
      await store().putItem(ns, 'off', { text: 'moon' })
      expect(await keys(ns, 'moon')).toEqual(['off'])
      await store().putItem(ns, 'off', { text: 'moon' }, { index: false })
      expect(await keys(ns, 'moon')).toEqual([])
    })

    test('an item may name the fields to embed itself', async () => {
      const ns = [v7()]
      await store().putItem(ns, 'k', { text: 'sun', tags: ['moon', 'star'] }, { index: ['tags[*]'] })
      expect(embed.batches).toEqual([['moon', 'star']])
      expect((await found(ns, 'star'))[0]?.score).toBeCloseTo(1, 5)
      const refused = await failure(store().putItem(ns, 'k', { text: 'sun' }, { index: ['tags['] }))
      expect(refused).toMatchObject({ status: 422, detail: expect.stringContaining('"tags["') })
    })

    test('a deleted item is found no more, and leaves no vector', async () => {
      const ns = [v7()]
      await store().putItem(ns, 'k', { text: 'moon' })
      await store().deleteItem(ns, 'k')
      expect(await keys(ns, 'moon')).toEqual([])
    })

    test('texts that cannot be embedded are the answer, and nothing is stored', async () => {
      const ns = [v7()]
      const broken = countingEmbed(3)
      const other = await stack.heddle({
        graphs: { remember },
        store: { index: { dims: DIMS, embed: Object.assign(broken, {}), fields: ['text', 'chapters[*].title'] } },
      })
      const refused = await failure(other.client.store.putItem(ns, 'k', { text: 'moon' }))
      expect(refused).toMatchObject({ status: 502, code: 'embedding_failed' })
      expect(refused.detail).toContain('gives vectors of 3 numbers, and store.index.dims is 64')
      expect(await other.client.store.getItem(ns, 'k')).toBeNull()
      await other.close()
    })

    test('graph code puts with index, searches, lists and batches, in a round trip for each turn', async () => {
      const ns = v7()
      const thread = await server.client.threads.create()
      const state = (await server.client.runs.wait(thread.thread_id, 'remember', { input: { ns } })) as unknown as {
        found: Record<string, { key: string; score?: number }[]> & { one: { key: string } }
      }
      const { moon, apples, one, spaces, listed } = state.found
      expect(moon?.map(({ key }) => key)).toEqual(['c', 'a'])
      expect(moon?.[0]?.score).toBeCloseTo(1, 5)
      expect(apples?.map(({ key, score }) => [key, Math.round(score ?? 0)])).toEqual([['a', 1]])
      expect(one).toMatchObject({ key: 'b', value: { text: 'blue moon' } })
      expect([spaces, listed]).toEqual([[[ns]], [[ns]]])
      // the three puts together, then the queries of the batch
      expect(embed.batches).toEqual([['red apples', 'blue', 'moon'], ['moon'], ['red apples']])
    })
  },
  { only: await vectorStacks() },
)

describe('without an index', () => {
  eachStack((stack) => {
    test('a query and fields to index are refused, and what asks for none passes', async () => {
      const server = await stack.heddle({ graphs: { remember } })
      const { store } = server.client
      const ns = [v7()]
      await store.putItem(ns, 'k', { text: 'moon' }, { index: false })
      const put = await failure(store.putItem(ns, 'k', { text: 'moon' }, { index: ['text'] }))
      const search = await failure(store.searchItems(ns, { query: 'moon' }))
      for (const refused of [put, search]) {
        expect(refused).toMatchObject({ status: 422, code: 'not_supported' })
        expect(refused.detail).toContain('store.index')
      }
    })
  })
})
