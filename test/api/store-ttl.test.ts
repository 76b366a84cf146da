// How long items last: what is configured for those that do not say, what reading renews, and when they are deleted.

import { v7 } from 'uuid'
import { expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { sql } from '../../src/db/sql.ts'
import { notes } from '../support/graphs/notes.ts'
import { eachStack } from '../support/stacks.ts'
import { until } from '../support/until.ts'

/** Ten milliseconds, in minutes. */
const MOMENT = 1 / 6_000

eachStack((stack) => {
  test('an item that does not say lasts as long as is configured; one that says so lasts for ever', async () => {
    const server = await stack.heddle({ graphs: { notes }, store: { ttl: { default_ttl: MOMENT } } })
    const { store } = server.client
    const ns = [v7()]
    await store.putItem(ns, 'short', {})
    await store.putItem(ns, 'long', {}, { ttl: 60 })
    const ever = { namespace: ns, key: 'ever', value: {}, ttl: null }
    expect((await server.request('PUT', '/store/items', ever)).status).toBe(204)
    await until('the item is gone', async () => (await store.getItem(ns, 'short', { refreshTtl: false })) === null)
    expect((await store.searchItems(ns)).items.map(({ key }) => key).sort()).toEqual(['ever', 'long'])
  })

  test('reading renews the time only where that is configured or asked for', async () => {
    const server = await stack.heddle({ graphs: { notes }, store: { ttl: { refresh_on_read: false } } })
    const { store } = server.client
    const ns = [v7()]
    const gone = async (read: () => Promise<unknown>) => {
      await store.putItem(ns, 'k', {}, { ttl: 20 * MOMENT })
      const until = performance.now() + 1_000
      while (performance.now() < until) if (!(await read())) return true
      return false
    }
    expect(await gone(() => store.getItem(ns, 'k'))).toBe(true)
    expect(await gone(async () => (await store.searchItems(ns)).items[0])).toBe(true)
    expect(await gone(() => store.getItem(ns, 'k', { refreshTtl: true }))).toBe(false)
    expect(await gone(async () => (await store.searchItems(ns, { refreshTtl: true })).items[0])).toBe(false)
  })
})

eachStack(
  (stack) => {
    test('what has expired is deleted at the interval that is configured', async () => {
      const server = await stack.heddle({ graphs: { notes }, store: { ttl: { sweep_interval_minutes: 0.01 } } })
      const ns = [v7()]
      await server.client.store.putItem(ns, 'k', {}, { ttl: MOMENT })
      const db = await openDatabase({ ...stack.database(), poolSize: 1 } as never, () => {})
      try {
        await until(
          'the row is gone',
          async () => (await db.rows(sql`select 1 from store_items where namespace = ${ns}::text[]`)).length === 0,
        )
      } finally {
        await db.close()
      }
    })
  },
  { only: ['postgres'] },
)
