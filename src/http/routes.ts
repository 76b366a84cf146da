// Every route of the server, in one list.

import { assistantRoutes } from './assistants.ts'
import { commandRoutes } from './commands.ts'
import { cronRoutes } from './crons.ts'
import type { HttpDeps } from './deps.ts'
import type { Route } from './route.ts'
import { runRoutes } from './runs.ts'
import { stateRoutes } from './state.ts'
import { storeRoutes } from './store.ts'
import { systemRoutes } from './system.ts'
import { threadEventRoutes } from './thread-events.ts'
import { threadRoutes } from './threads.ts'
import { webhookRoutes } from './webhooks.ts'

export const allRoutes = (deps: HttpDeps): Route[] => [
  ...assistantRoutes(deps),
  ...threadRoutes(deps),
  ...threadEventRoutes(deps),
  ...stateRoutes(deps),
  ...runRoutes(deps),
  ...commandRoutes(deps),
  ...cronRoutes(deps),
  ...storeRoutes(deps),
  ...webhookRoutes(deps),
  ...systemRoutes(deps),
]
