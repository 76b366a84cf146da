// The server about itself: is it well, what is it, its API as a document and as a page, and emptying it in development.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { allEndpoints } from '../contract/all.ts'
import * as contract from '../contract/system.ts'
import { sql } from '../db/sql.ts'
import * as truncation from '../db/truncate.ts'
import { ApiError } from '../errors.ts'
import type { HttpDeps } from './deps.ts'
import { docsPage, docsPolicy } from './docs.ts'
import { openapiDocument } from './openapi.ts'
import { file, on, type Route, rawJson } from './route.ts'
import { isServed } from './served.ts'

/** The routes about the server itself. */
export function systemRoutes(deps: Pick<HttpDeps, 'db' | 'bus' | 'config' | 'engine'>): Route[] {
  const { db, bus, config, engine } = deps
  const info: contract.Info = {
    version: config.version,
    langgraph_js_version: langgraphVersion(),
    context: 'js',
    flags: {
      assistants: !config.disabled.includes('assistants'),
      crons: !config.disabled.includes('runs'),
      langsmith: config.langsmith,
      langsmith_tracing_replicas: true,
      stream_namespaces: true,
      strict_resume: true,
    },
    metadata: {},
  }
  const document = once(() => {
    const served = allEndpoints.filter(([, endpoint]) => isServed(endpoint, config))
    return openapiDocument(served, config.version)
  })
  const printed = once(() => JSON.stringify(document()))
  const page = once(() => docsPage(document()))
  return [
    on(contract.ok, async ({ query }) => {
      if (engine.hangingUp()) throw new ApiError('shutting_down')
      if (!query.check_db) return { ok: true }
      await within(CHECK_MS, db.rows(sql`select 1`))
      return {
        ok: true,
        services: { database: 'up' as const, bus: bus.healthy() ? ('up' as const) : ('down' as const) },
      }
    }),
    on(contract.info, () => info),
    on(contract.openapi, () => rawJson(printed())),
    on(contract.docs, () =>
      file(page(), 'text/html; charset=utf-8', { headers: { 'content-security-policy': docsPolicy } }),
    ),
    on(contract.truncate, async ({ body }) => {
      await truncation.truncate(db, body)
      return { ok: true }
    }),
  ]
}

/** A probe must be answered before whoever asks gives up. */
const CHECK_MS = 5_000

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const words = `The database did not answer within ${ms / 1_000} s.`
    timer = setTimeout(() => reject(new ApiError('database_unavailable', words)), ms)
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

function langgraphVersion(): string {
  const path = createRequire(import.meta.url).resolve('@langchain/langgraph/package.json')
  const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version: string }
  return version
}
