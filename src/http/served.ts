// Which endpoints a configuration serves.

import type { RouteGroup, ServerConfig } from '../config.ts'
import type { Endpoint } from '../contract/endpoint.ts'

const groups: Readonly<Record<Endpoint['tag'], RouteGroup>> = {
  Assistants: 'assistants',
  Threads: 'threads',
  Runs: 'runs',
  'Stateless runs': 'runs',
  Crons: 'runs',
  Store: 'store',
  Webhooks: 'webhooks',
  System: 'meta',
}

/** False where the endpoint's group is switched off, or where it is for development only. */
export function isServed(endpoint: Endpoint, config: Pick<ServerConfig, 'dev' | 'disabled'>): boolean {
  // whoever watches the server must be able to, whatever is switched off
  if (endpoint.path === '/ok') return true
  if (endpoint.path.startsWith('/internal/') && !config.dev) return false
  return !config.disabled.includes(groups[endpoint.tag])
}
