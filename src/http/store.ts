// The store's routes. In charge of nothing but joining contract and statements.

import * as contract from '../contract/store.ts'
import * as store from '../db/store.ts'
import type { HttpDeps } from './deps.ts'
import { on, type Route } from './route.ts'

/** Every route of the tag Store. */
export function storeRoutes({ db }: HttpDeps): Route[] {
  return [
    on(contract.putItem, ({ body, visible }) => {
      const { namespace, key, value, ttl } = body
      return store.put(db, { namespace, key, value, ttl: ttl ?? null }, visible)
    }),
    on(contract.deleteItem, ({ body, visible }) => store.remove(db, body, visible)),
    on(contract.getItem, ({ query, visible }) => store.get(db, { ...query, ...renewal(query) }, visible)),
    on(contract.searchItems, async ({ body, visible }) => {
      const { namespace_prefix, filter, limit, offset } = body
      const wanted = { namespace_prefix, limit, offset, ...(filter && { filter }), ...renewal(body) }
      return { items: await store.search(db, wanted, visible) }
    }),
    on(contract.listNamespaces, async ({ body, visible }) => {
      const { prefix, suffix, max_depth, limit, offset } = body
      const wanted = {
        limit,
        offset,
        ...(prefix && { prefix }),
        ...(suffix && { suffix }),
        ...(max_depth !== undefined && { max_depth }),
      }
      return { namespaces: await store.namespaces(db, wanted, visible) }
    }),
  ]
}

const renewal = ({ refresh_ttl }: { refresh_ttl?: boolean | undefined }) =>
  refresh_ttl === undefined ? {} : { refresh_ttl }
