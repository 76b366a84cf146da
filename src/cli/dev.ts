// `heddle dev`: everything in one process on an embedded database, with reload on save. In charge of the first screen a
// newcomer sees; a graph that does not load is said, and stops nothing.

import { join, resolve } from 'node:path'
import { version } from '../config.ts'
import type { DevOptions } from './options.ts'
import { reloadOnSave } from './reload.ts'
import { choosePort, closeOnSignal, openable, readSetting, say } from './serve.ts'

const PORT = 2024
const GRACE_SECONDS = 3

/** Serves a project until a signal ends it. Throws `ConfigError`. */
export async function dev(options: DevOptions): Promise<void> {
  const { project, environment, executorEnv, config, observe } = readSetting(options)
  const host = options.host ?? '127.0.0.1'
  const asked = options.port ?? environment.port
  const port = await choosePort(host, asked, PORT, true)
  const dataDir = resolve(options.dataDir ?? join(project.dir, '.heddle'))
  const why = 'dev uses the embedded database and needs no bus; heddle start uses it'
  if (environment.database) observe({ kind: 'config_ignored', key: environment.database.key, reason: why })
  if (environment.redis) observe({ kind: 'config_ignored', key: 'REDIS_URI', reason: why })
  const graceSeconds = Math.min(config.shutdownGraceSeconds, GRACE_SECONDS)
  // Loaded late, so that a mistake in the configuration is said at once.
  const started = closeOnSignal({ graceSeconds, quiet: environment.log.json })
  const { createHeddle } = await import('../app.ts')
  const heddle = await createHeddle({
    graphs: project.graphs,
    ...(project.app && { app: project.app }),
    projectDir: project.dir,
    store: project.store,
    env: executorEnv,
    executor: 'child',
    database: { dataDir },
    role: 'all',
    dev: true,
    config: { ...config, shutdownGraceSeconds: graceSeconds },
    observe,
  })
  const { url } = await heddle.listen({ host, port })
  const watcher = options.reload ? await reloadOnSave({ project, heddle, dataDir }) : undefined
  started({
    close: async (how) => {
      await watcher?.close()
      await heddle.close(how)
    },
  })
  const address = url.replace(`//${host}`, `//${openable(host)}`)
  const moved = asked === undefined && port !== PORT ? ` (port ${PORT} is in use)` : ''
  const first = heddle.graphs().find((graph) => graph.error === undefined)?.graph_id
  say(`Heddle ${version} on ${address}${moved}`)
  say(
    `  graphs    ${heddle
      .graphs()
      .map(({ graph_id, error }) => (error === undefined ? graph_id : `${graph_id} (does not load)`))
      .join(', ')}`,
  )
  const app = heddle.app()
  if (app) say(`  app       ${app.name}${app.error === undefined ? '' : ' (does not load)'}`)
  say(`  database  ${heddle.database}`)
  say(`  bus       ${heddle.bus}`)
  say(`  API docs  ${address}/docs`)
  say(`  Studio    https://smith.langchain.com/studio/?baseUrl=${address}`)
  if (first !== undefined) say(`  try       ${curl(address, first)}`)
}

const curl = (address: string, graph: string): string => {
  const body = JSON.stringify({ assistant_id: graph, input: { messages: [{ role: 'user', content: 'hello' }] } })
  return `curl -s ${address}/runs/wait -H 'content-type: application/json' -d '${body.replaceAll("'", "'\\''")}'`
}
