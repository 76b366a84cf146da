// `heddle start`: production. In charge of refusing to start on anything that is not as it was asked for: no database, a
// graph or an app that does not load, a busy port.

import { version } from '../config.ts'
import { ConfigError } from '../errors.ts'
import type { StartOptions } from './options.ts'
import { choosePort, closeOnSignal, openable, readSetting, type Setting, say } from './serve.ts'

const PORT = 8000

/** Serves a project until a signal ends it. Throws `ConfigError`. */
export async function start(options: StartOptions): Promise<void> {
  const setting = readSetting(options, options.role)
  const { project, environment, executorEnv, config, observe } = setting
  const { database, redis } = stores(options, setting)
  const host = options.host ?? '0.0.0.0'
  const listens = options.role !== 'worker'
  const port = listens ? await choosePort(host, options.port ?? environment.port, PORT, false) : PORT
  // Loaded late, so that a mistake in the configuration is said at once.
  const started = closeOnSignal({ graceSeconds: config.shutdownGraceSeconds, quiet: environment.log.json })
  const { createHeddle } = await import('../app.ts')
  const heddle = await createHeddle({
    graphs: project.graphs,
    ...(project.app && { app: project.app }),
    projectDir: project.dir,
    store: project.store,
    env: executorEnv,
    executor: 'child',
    database,
    ...(redis && { redis }),
    role: options.role,
    dev: false,
    config,
    observe,
  }).catch((error: unknown) => {
    throw error instanceof ConfigError && /^(graphs\.|http\.app)/.test(error.message)
      ? new ConfigError(`${project.file}: ${error.message}`)
      : error
  })
  const url = listens
    ? (await heddle.listen({ host, port })).url.replace(`//${host}`, `//${openable(host)}`)
    : undefined
  const graphs = project.graphs.map(({ graph_id }) => graph_id)
  if (!listens) observe({ kind: 'worker_started', database: heddle.database, bus: heddle.bus, graphs })
  started(heddle)
  if (environment.log.json) return
  say(`Heddle ${version} ${url === undefined ? 'works on runs' : `on ${url}`} (role ${options.role})`)
  say(`  graphs    ${graphs.join(', ')}`)
  const app = heddle.app()
  if (app) say(`  app       ${app.name}`)
  say(`  database  ${heddle.database}`)
  say(`  bus       ${heddle.bus}`)
}

function stores(options: StartOptions, { environment, observe }: Setting) {
  if (options.dataDir === undefined) {
    if (environment.database) return { database: { uri: environment.database.uri }, redis: environment.redis }
    throw new ConfigError(
      'heddle start needs a database: set DATABASE_URI (or POSTGRES_URI, POSTGRES_URI_CUSTOM), or give --data-dir for an embedded one.',
    )
  }
  if (options.role !== 'all') {
    throw new ConfigError(
      `--role ${options.role} needs DATABASE_URI: the embedded database of --data-dir belongs to one process.`,
    )
  }
  const reason = '--data-dir asks for the embedded database, which one process uses alone'
  if (environment.database) observe({ kind: 'config_ignored', key: environment.database.key, reason })
  if (environment.redis) observe({ kind: 'config_ignored', key: 'REDIS_URI', reason })
  return { database: { dataDir: options.dataDir }, redis: undefined }
}
