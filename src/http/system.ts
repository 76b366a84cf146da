// The server about itself: is it well, what is it, its API as a document and as a page, and emptying it in development.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { allEndpoints } from '../contract/all.ts'
import * as contract from '../contract/system.ts'
import { sql } from '../db/sql.ts'
import * as truncation from '../db/truncate.ts'
import type { HttpDeps } from './deps.ts'
import { docsPage, docsPolicy } from './docs.ts'
import { openapiDocument } from './openapi.ts'
import { file, on, type Route, rawJson } from './route.ts'
import { isServed } from './served.ts'

/** The routes about the server itself. */
export function systemRoutes(deps: Pick<HttpDeps, 'db' | 'config'>): Route[] {
  const { db, config } = deps
  const info: contract.Info = {
    version: config.version,
    langgraph_js_version: langgraphVersion(),
    context: 'js',
    flags: {
      assistants: !config.disabled.includes('assistants'),
      crons: false,
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
      if (query.check_db) await db.rows(sql`select 1`)
      return { ok: true }
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
