// What the routes are given. Names types only, so that no route can reach a part it was not handed.

import type { Bus } from '../bus/bus.ts'
import type { ServerConfig } from '../config.ts'
import type { Db } from '../db/db.ts'
import type { Executor } from '../executor/executor.ts'
import type { Registry } from '../graph/registry.ts'
import type { Store } from '../graph/store.ts'
import type { Observe } from '../observe.ts'
import type { Engine } from '../runs/engine.ts'

/** Every part of the server that a route may use. */
export interface HttpDeps {
  db: Db
  bus: Bus
  executor: Executor
  registry: Registry
  config: ServerConfig
  observe: Observe
  engine: Engine
  store: Store
}
