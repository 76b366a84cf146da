// The store through the official client.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { eachNotesServer, failure } from './nouns.ts'

eachNotesServer((stack) => {
  const keys = async (...asked: Parameters<typeof stack.client.store.searchItems>) =>
    (await stack.client.store.searchItems(...asked)).items.map((item) => item.key)

  test('an item is stored, read, replaced and deleted', async () => {
    const { store } = stack.client
    const ns = [v7(), 'b']
    const value = { text: 'ü', n: 1.5, deep: { list: [1, null, true] } }
    await store.putItem(ns, 'k', value)
    const first = await store.getItem(ns, 'k')
    expect(first).toMatchObject({ namespace: ns, key: 'k', value })
    await store.putItem(ns, 'k', { n: 2 })
    const second = await store.getItem(ns, 'k')
    expect(second).toMatchObject({ value: { n: 2 }, createdAt: first?.createdAt })
    expect((second?.updatedAt ?? '') > (first?.updatedAt ?? '')).toBe(true)
    await store.deleteItem(ns, 'k')
    expect(await store.getItem(ns, 'k')).toBeNull()
    await store.deleteItem(ns, 'k')
  })

  test('keys and labels are literal, whatever they hold', async () => {
    const { store } = stack.client
    const root = v7()
    const odd = ["'; drop table store_items; --", '%', '_', '*', '{a,b}', '"', '\\', 'ns:1|2', '日本', '__proto__']
    for (const [n, text] of odd.entries()) await store.putItem([root, text], text, { n })
    for (const [n, text] of odd.entries()) {
      expect((await store.getItem([root, text], text))?.value).toEqual({ n })
      expect(await keys([root, text])).toEqual([text])
    }
    expect(await keys([root], { limit: 100 })).toHaveLength(odd.length)
  })

  test('a search stays under its namespace and gives the latest changed first', async () => {
    const { store } = stack.client
    const root = v7()
    await store.putItem([root, 'a'], '1', {})
    await store.putItem([root, 'ab'], '2', {})
    await store.putItem([root, 'a', 'c'], '3', {})
    await store.putItem([root, 'a'], '1', { again: true })
    expect(await keys([root, 'a'])).toEqual(['1', '3'])
    expect(await keys([root])).toEqual(['1', '3', '2'])
    expect(await keys([root], { limit: 1, offset: 1 })).toEqual(['3'])
    expect(await keys([])).toEqual(expect.arrayContaining(['1', '3', '2']))
  })

  test('a filter compares fields by equality and by operators', async () => {
    const { store } = stack.client
    const ns = [v7()]
    await store.putItem(ns, 'one', { n: 1, kind: 'a', by: { who: 'ann', age: 3 } })
    await store.putItem(ns, 'two', { n: 2, kind: 'b', by: { who: 'bob' } })
    const found = async (filter: Record<string, unknown>) => (await keys(ns, { filter })).sort()
    expect(await found({ kind: 'a' })).toEqual(['one'])
    expect(await found({ n: { $gte: 1, $lt: 2 } })).toEqual(['one'])
    expect(await found({ n: { $ne: 1 } })).toEqual(['two'])
    expect(await found({ by: { who: 'ann' } })).toEqual(['one'])
    expect(await found({ "n') or true --": 1 })).toEqual([])
    const refused = await failure(store.searchItems(ns, { filter: { n: { $where: '1' } } }))
    expect(refused).toMatchObject({ status: 422 })
    expect(refused.detail).toMatch(/\$where/)
  })

  test('namespaces are listed by prefix, suffix and depth', async () => {
    const { store } = stack.client
    const root = v7()
    for (const ns of [
      ['a', 'x'],
      ['a', 'y'],
      ['b', 'x', 'z'],
    ])
      await store.putItem([root, ...ns], 'k', {})
    const listed = async (options: Parameters<typeof store.listNamespaces>[0]) =>
      (await store.listNamespaces(options)).namespaces.map((ns) => ns.slice(1).join('.'))
    expect(await listed({ prefix: [root] })).toEqual(['a.x', 'a.y', 'b.x.z'])
    expect(await listed({ prefix: [root, '*', 'x'] })).toEqual(['a.x', 'b.x.z'])
    expect(await listed({ prefix: [root], suffix: ['x'] })).toEqual(['a.x'])
    expect(await listed({ prefix: [root], maxDepth: 2 })).toEqual(['a', 'b'])
    expect(await listed({ prefix: [root], limit: 1, offset: 1 })).toEqual(['a.y'])
  })

  test('a namespace may be written with dots or as a list', async () => {
    const root = v7()
    const item = { namespace: [root, 'a'], key: 'k', value: { n: 1 } }
    expect((await stack.fetch('/store/items', { method: 'PUT', json: item })).status).toBe(204)
    for (const query of [`namespace=${root}.a`, `namespace=${root}&namespace=a`]) {
      const answer = await stack.fetch(`/store/items?${query}&key=k`)
      expect(await answer.json()).toMatchObject(item)
    }
  })

  test.each([
    ['an empty namespace', { namespace: [] }],
    ['an empty label', { namespace: ['a', ''] }],
    ['a dot in a label', { namespace: ['a.b'] }],
    ['a label of 513 bytes', { namespace: ['a'.repeat(513)] }],
    ['17 labels', { namespace: Array.from({ length: 17 }, () => 'a') }],
    ['the reserved first label', { namespace: ['langgraph', 'a'] }],
    ['a NUL', { namespace: ['a\0b'] }],
    ['a value that is no object', { value: [1] }],
    ['a time to live below nothing', { ttl: -1 }],
  ])('%s is refused', async (_, wrong) => {
    const json = { namespace: ['a'], key: 'k', value: {}, ...wrong }
    const answer = await stack.fetch('/store/items', { method: 'PUT', json })
    expect(answer.status).toBe(422)
    expect(await answer.json()).toMatchObject({ code: 'validation_failed', detail: expect.any(String) })
  })

  test('thirty writers of one item leave one whole item', async () => {
    const { store } = stack.client
    const ns = [v7()]
    await Promise.all(Array.from({ length: 30 }, (_, n) => store.putItem(ns, 'k', { n, same: n }, { ttl: 5 })))
    const [item, ...others] = (await store.searchItems(ns)).items
    expect(others).toEqual([])
    expect(item?.value.n).toBe(item?.value.same)
  })
})
