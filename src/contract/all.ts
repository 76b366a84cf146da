// Every endpoint, by its name. In charge of nothing but the list, from which OpenAPI and the route test are made.

import * as assistants from './assistants.ts'
import * as commands from './commands.ts'
import * as crons from './crons.ts'
import type { Endpoint } from './endpoint.ts'
import * as state from './state.ts'
import * as statelessRuns from './stateless-runs.ts'
import * as store from './store.ts'
import * as system from './system.ts'
import * as threadEvents from './thread-events.ts'
import * as threadRuns from './thread-runs.ts'
import * as threads from './threads.ts'
import * as webhooks from './webhooks.ts'

const isEndpoint = (value: unknown): value is Endpoint =>
  typeof value === 'object' && value !== null && 'method' in value && 'path' in value && 'reply' in value

/** Every endpoint with the name it is declared under, which is its operation id. */
export const allEndpoints: readonly (readonly [string, Endpoint])[] = [
  assistants,
  threads,
  threadEvents,
  state,
  threadRuns,
  commands,
  statelessRuns,
  crons,
  store,
  webhooks,
  system,
].flatMap((module) =>
  Object.entries(module).flatMap(([name, value]) => (isEndpoint(value) ? [[name, value] as const] : [])),
)
