// The store's routes. In charge of nothing but joining contract and store.

import * as contract from '../contract/store.ts'
import type { ItemRow } from '../db/store.ts'
import type { HttpDeps } from './deps.ts'
import { on, type Route } from './route.ts'

/** Every route of the tag Store. */
export function storeRoutes({ store }: HttpDeps): Route[] {
  return [
    on(contract.putItem, async ({ body, visible }) => {
      await store.batch(
        [{ op: 'put', ...present(body), namespace: body.namespace, key: body.key, value: body.value }],
        visible,
      )
    }),
    on(contract.deleteItem, async ({ body, visible }) => {
      await store.batch([{ op: 'put', ...body, value: null }], visible)
    }),
    on(contract.getItem, async ({ query, visible }) => {
      const [item] = await store.batch(
        [{ op: 'get', ...present(query), namespace: query.namespace, key: query.key }],
        visible,
      )
      return item as ItemRow | null
    }),
    on(contract.searchItems, async ({ body, visible }) => {
      const { namespace_prefix, limit, offset } = body
      const [items] = await store.batch([{ op: 'search', ...present(body), namespace_prefix, limit, offset }], visible)
      return { items: items as ItemRow[] }
    }),
    on(contract.listNamespaces, async ({ body, visible }) => {
      const { limit, offset } = body
      const [namespaces] = await store.batch([{ op: 'namespaces', ...present(body), limit, offset }], visible)
      return { namespaces: namespaces as string[][] }
    }),
  ]
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

/** Without the fields that were not given. */
const present = <T extends object>(given: T): Present<T> =>
  Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Present<T>
