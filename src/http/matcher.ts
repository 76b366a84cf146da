// Which requests the custom app has a route or a middleware for. In charge of never saying no where the app would say yes: a
// request that is not relayed is answered without the app's middleware.

import { Hono } from 'hono'
import { getPath } from 'hono/utils/url'
import type { AppRoute } from '../executor/custom-protocol.ts'

/** True where the app is to be asked. */
export type Matcher = (request: Request) => boolean

/** Makes the matcher of the app's routes; null: it is asked everything. */
export function createMatcher(routes: readonly AppRoute[] | null): Matcher {
  // No standard request has these methods, so the app could not be given them.
  const isAskable = (method: string) => method !== 'TRACE' && method !== 'CONNECT'
  if (routes === null) return ({ method }) => isAskable(method)
  const { router } = new Hono()
  for (const { method, path } of routes) router.add(method, path, noHandler)
  return (request) => {
    const { method } = request
    if (routes.length === 0 || !isAskable(method)) return false
    return router.match(method === 'HEAD' ? 'GET' : method, getPath(request))[0].length > 0
  }
}

const noHandler = [() => {}, { basePath: '/', path: '/', method: 'ALL', handler: () => {} }] as never
