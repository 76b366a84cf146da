// The composition root: settings in, a running server out. In charge of making the parts, of the order in which they
// start and stop, and of nothing else.

import { resolve } from 'node:path'
import type { Bus } from './bus/bus.ts'
import { createMemoryBus } from './bus/memory.ts'
import { defaultServerConfig, executorVariables, processVariables, type ServerConfig } from './config.ts'
import { databaseClock } from './db/crons.ts'
import type { Database } from './db/db.ts'
import { admit } from './db/encryption.ts'
import { watched } from './db/health.ts'
import { migrate } from './db/migrate.ts'
import { type DatabaseSettings, openDatabase } from './db/open.ts'
import * as queue from './db/queue.ts'
import { ApiError, ConfigError } from './errors.ts'
import { type CustomApp, createCustomApp } from './executor/custom.ts'
import type { Executor, Storage } from './executor/executor.ts'
import type { GraphSource, GraphStatus } from './executor/protocol.ts'
import { createFail } from './failpoints.ts'
import { createRegistry, ensureAssistants } from './graph/registry.ts'
import { createStorage } from './graph/storage.ts'
import { createStore, type StoreDeps } from './graph/store.ts'
import { openIndex } from './graph/store-index.ts'
import { readStoreSettings, type StoreSettings } from './graph/store-settings.ts'
import { createHttp } from './http/app.ts'
import { type Listening, listen } from './http/listen.ts'
import { createRelay } from './http/relay.ts'
import { allRoutes } from './http/routes.ts'
import { type Observe, silent } from './observe.ts'
import { createEngine, type Engine } from './runs/engine.ts'
import { createItemSweeper } from './worker/item-sweeper.ts'
import { createJournal } from './worker/journal.ts'
import { createOutbox, type Outbox } from './worker/outbox.ts'
import { createPruner } from './worker/pruner.ts'
import { createScheduler } from './worker/scheduler.ts'
import { createSweeper } from './worker/sweeper.ts'
import { createPost } from './worker/webhook-post.ts'
import { createWorker, type Worker } from './worker/worker.ts'

/** How long connections may take to end once all they carried is over. */
const CLOSE_MS = 500

/** A graph by value, by `path:export`, or in full. */
export type GraphSetting = string | GraphSource | object

export interface HeddleOptions {
  /** Graphs by id; a list where they name themselves. */
  graphs: Record<string, GraphSetting> | readonly GraphSource[]
  /** Where relative paths of graphs begin; the working directory by default. */
  projectDir?: string
  /** The custom app as `path:export`, or in full: it answers requests first, in a child process. */
  app?: string | { path: string; export: string }
  /** Where graph code runs: in a child process (default; graphs by path only), or in this one. */
  executor?: 'child' | 'inline'
  /** The environment of the children. */
  env?: Record<string, string | undefined>
  /** In memory by default: then nothing outlives the process. */
  database?: DatabaseSettings
  /** Without it, processes on one Postgres tell each other through it. */
  redis?: { uri: string; prefix?: string; cluster?: boolean }
  /** The semantic index of the store, and how long its items last. */
  store?: StoreSettings
  /** `api` serves requests and runs nothing, `worker` the other way round; both by default. */
  role?: 'all' | 'api' | 'worker'
  dev?: boolean
  config?: Partial<ServerConfig>
  observe?: Observe
}

export interface Heddle {
  /** A standard handler. */
  fetch(request: Request): Promise<Response>
  /** Listens on a port; 0 takes a free one. */
  listen(at?: { host?: string; port?: number }): Promise<{ url: string; port: number }>
  /** The graphs as last loaded. */
  graphs(): readonly GraphStatus[]
  /** The custom app, with what was wrong with it when it was loaded last. */
  app(): { name: string; error?: string } | undefined
  /** Loads the graphs and the custom app anew. */
  reload(): Promise<readonly GraphStatus[]>
  /** Lets runs finish (at most `shutdownGraceSeconds`) while their clients follow them, gives the rest back, and closes
   *  everything. With `now`, also when it is closing already, nothing is waited for. */
  close(options?: { now?: boolean }): Promise<void>
  /** What it stands on, for people. */
  readonly database: string
  readonly bus: string
}

/** Starts a server. Throws `ConfigError` for settings that cannot work. */
export async function createHeddle(options: HeddleOptions): Promise<Heddle> {
  const observe = options.observe ?? silent
  const config = configOf(options)
  const stored = readStoreSettings(options.store ?? {}, resolve(options.projectDir ?? '.'))
  const settings = { ...(options.database ?? { memory: true }), vectors: stored.index !== undefined }
  const opened: { close(): Promise<void> }[] = []
  /** Whatever fails while starting, what was opened before is closed. */
  const opening = async <T extends { close(): Promise<void> }>(made: Promise<T>): Promise<T> => {
    const part = await made
    opened.unshift(part)
    return part
  }
  try {
    const parts = await createExecutor(options, config, observe, stored.index?.embed.value)
    // Independent of each other, and each takes its time.
    const loading = parts.executor.start()
    loading.catch(() => {})
    opened.unshift({ close: () => parts.executor.close() })
    const custom =
      options.app === undefined ? undefined : createCustomApp(options.app, childOptions(options, config, observe))
    if (custom) opened.unshift(custom)
    // A worker needs it for webhooks only, and starts it for the first.
    const appLoading = options.role === 'worker' ? undefined : custom?.start()
    const pooled = { ...settings, ...('uri' in settings && { poolSize: Math.max(1, config.poolSize - 2) }) }
    const db = watched(await opening(openDatabase(pooled, observe, config.aesKeys)), 'requests', observe)
    await migrate(db)
    await admit(db)
    if (db.kind === 'pglite') await queue.forgetWorkers(db)
    // Connections of their own: a busy pool must cost neither the lease nor the journal its turn.
    const alone = (generic: boolean) => openDatabase({ ...settings, poolSize: 1, generic }, observe, config.aesKeys)
    const leaseDb = db.kind === 'pg' ? await opening(alone(false)) : db
    const journalDb = db.kind === 'pg' ? await opening(alone(true)) : db
    const bus = await opening(openBus(options, config, observe))
    const graphs = await loading
    const broken = graphs.find(({ error }) => error !== undefined)
    // Before any run is claimed: another process may have the graph whole.
    if (broken && !config.dev) throw new ConfigError(`graphs.${broken.graph_id}: ${broken.error}`)
    const appError = await appLoading
    if (appError !== undefined && !config.dev) throw new ConfigError(`http.app: ${appError}`)
    await ensureAssistants(db, graphs)
    const index = stored.index && (await openIndex({ db, executor: parts.executor, observe }, stored.index))
    const store = { ttl: stored.ttl, ...(index && { index }) }
    return await assemble({ options, config, observe, db, leaseDb, journalDb, bus, store, custom, ...parts, opened })
  } catch (error) {
    for (const part of opened) await part.close().catch(() => {})
    throw error
  }
}

interface Parts {
  options: HeddleOptions
  config: ServerConfig
  observe: Observe
  db: Database
  leaseDb: Database
  journalDb: Database
  bus: Bus
  store: Pick<StoreDeps, 'index' | 'ttl'>
  custom: CustomApp | undefined
  executor: Executor
  /** Gives the executor its storage, which needs the database. */
  connect: (storage: Storage) => void
  opened: { close(): Promise<void> }[]
}

async function assemble(parts: Parts): Promise<Heddle> {
  const { options, config, observe, db, bus, custom, executor } = parts
  const fail = createFail(config.failpoints)
  if (fail) observe({ kind: 'failpoints_set', names: config.failpoints.map(({ name }) => name) })
  const registry = createRegistry({ executor })
  const webhooks = config.disabled.includes('webhooks') ? undefined : config.webhooks
  let worker: Worker | undefined
  let outbox: Outbox | undefined
  const engine: Engine = createEngine({
    db,
    bus,
    registry,
    observe,
    durability: config.durability,
    threadTtl: config.threadTtl,
    webhooks,
    worker: () => worker,
    fail,
  })
  const store = createStore({ db, executor, ...parts.store })
  parts.connect(createStorage({ db, store, flushed: async (threadId) => worker?.flushed(threadId) }))
  if (options.role !== 'api') {
    worker = createWorker(
      {
        db,
        leaseDb: parts.leaseDb,
        bus,
        executor,
        observe,
        journal: (trusted) =>
          createJournal({
            db: parts.journalDb,
            bus,
            observe,
            trusted,
            maxValueBytes: config.checkpointValueMaxBytes,
            fail,
          }),
        onSettled: engine.settled,
        onOwed: () => outbox?.wake(),
        fail,
      },
      {
        slots: config.jobsPerWorker,
        maxAttempts: config.maxAttempts,
        runTimeoutSeconds: config.runTimeoutSeconds,
        leaseSeconds: config.leaseSeconds,
        // The executor gives up on a graph first, and says so; this is for an executor that does not answer.
        abortGraceMs: config.cancelGraceSeconds * 1_000 + 5_000,
        pollMs: 1_000,
        stream: { maxBytes: config.runEventsMaxBytes, maxEvents: config.runEventsMaxCount },
      },
    )
  }
  if (worker && webhooks) {
    const post = createPost({ allowPrivate: webhooks.allowPrivate, app: custom })
    outbox = createOutbox({ db, post, observe, fail }, { webhooks, version: config.version, pollMs: 1_000 })
  }
  const pruner = createPruner(
    { db, observe },
    { eventTtlSeconds: config.eventTtlSeconds, webhookTtlSeconds: config.webhooks.ttlSeconds, everyMs: 30_000 },
  )
  const everyMs = config.sweepIntervalSeconds * 1_000
  const sweeper = createSweeper({ db, observe }, { everyMs, limit: config.sweepLimit })
  const itemMinutes = parts.store.ttl?.sweepMinutes
  const itemSweeper = createItemSweeper(
    { db, observe },
    { everyMs: itemMinutes === undefined ? 30_000 : itemMinutes * 60_000 },
  )
  const creating = { db, registry, durability: config.durability, webhooks, known: new Map() }
  const scheduler = createScheduler({ ...creating, bus, observe, clock: databaseClock, fail }, { everyMs: 1_000 })
  const upkeep = [pruner, sweeper, itemSweeper, scheduler]
  await worker?.start()
  outbox?.start()
  if (worker) for (const service of upkeep) service.start()
  const deps = { db, bus, executor, registry, config, observe, engine, store }
  const relay = custom && createRelay(custom, config)
  const http = createHttp({ ...deps, relay }, allRoutes(deps))
  await relay?.listen(http.own)
  const listening: Listening[] = []
  let closing: Promise<void> | undefined
  const fetch: Heddle['fetch'] = async (request) => http.fetch(request)

  const hurry = new AbortController()

  async function close(): Promise<void> {
    observe({ kind: 'server_closing', reason: 'close' })
    const until = performance.now() + config.shutdownGraceSeconds * 1_000
    engine.hangUp()
    await Promise.all(upkeep.map((service) => service.stop()))
    await worker?.stop(config.shutdownGraceSeconds * 1_000, hurry.signal)
    await outbox?.stop(Math.max(0, until - performance.now()), hurry.signal)
    await relay?.idle(until - performance.now(), hurry.signal)
    // What runs elsewhere is told to its readers to the end; with an embedded database nothing does.
    if (db.kind === 'pg') await engine.readersGone(until - performance.now(), hurry.signal)
    engine.close()
    await Promise.all(listening.map((port) => port.close(CLOSE_MS)))
    await relay?.close()
    for (const part of parts.opened) await part.close()
  }

  return {
    fetch,
    async listen({ host = '127.0.0.1', port = 0 } = {}) {
      if (closing) throw new ApiError('shutting_down')
      const at = await listen(http, { host, port, maxMessageBytes: config.bodyLimitBytes })
      listening.push(at)
      const names = executor.graphs().map(({ graph_id }) => graph_id)
      observe({ kind: 'server_listening', url: at.url, database: db.description, bus: bus.description, graphs: names })
      return { url: at.url, port: at.port }
    },
    graphs: () => executor.graphs(),
    app: () => custom && { name: custom.name, ...(custom.error() !== undefined && { error: custom.error() }) },
    async reload() {
      const [graphs] = await Promise.all([executor.reload(), custom?.reload()])
      await ensureAssistants(db, graphs)
      return graphs
    },
    close: ({ now = false } = {}) => {
      if (now) hurry.abort()
      closing ??= close()
      return closing
    },
    database: db.description,
    bus: bus.description,
  }
}

function configOf(options: HeddleOptions): ServerConfig {
  const config = { ...defaultServerConfig, ...options.config, dev: options.dev ?? false }
  const hasApp = options.app !== undefined
  const toApp = !hasApp ? 'none' : config.webhooks.toApp === 'forbidden' ? 'forbidden' : 'allowed'
  return { ...config, webhooks: { ...config.webhooks, toApp } }
}

/** The executor, started before the database is there; what it reads until then waits. */
async function createExecutor(
  options: HeddleOptions,
  config: ServerConfig,
  observe: Observe,
  embed: unknown,
): Promise<{ executor: Executor; connect: (storage: Storage) => void }> {
  let connect: (storage: Storage) => void = () => {}
  const ready = new Promise<Storage>((resolve) => {
    connect = resolve
  })
  const storage: Storage = {
    'checkpoint.get': async (params) => (await ready)['checkpoint.get'](params),
    'checkpoint.list': async (params) => (await ready)['checkpoint.list'](params),
    'store.batch': async (params) => (await ready)['store.batch'](params),
  }
  const projectDir = resolve(options.projectDir ?? '.')
  const abortGrace = config.cancelGraceSeconds * 1_000
  const graphs = graphSources(options.graphs, projectDir)
  const byValue = graphs.find(({ value }) => value !== undefined)
  if (options.executor === 'inline' || (options.executor === undefined && byValue !== undefined)) {
    const { createInlineExecutor } = await import('./executor/inline.ts')
    return {
      connect,
      executor: createInlineExecutor({
        graphs,
        projectDir,
        storage,
        observe,
        abortGrace,
        ...(embed !== undefined && { embed }),
      }),
    }
  }
  if (embed !== undefined) {
    throw new ConfigError('store.index.embed is a value: give "./file.ts:function", or executor: \'inline\'.')
  }
  if (byValue !== undefined) {
    throw new ConfigError(`The graph "${byValue.graph_id}" is an object: give its path, or executor: 'inline'.`)
  }
  const { createChildExecutor } = await import('./executor/child-process.ts')
  return {
    connect,
    executor: createChildExecutor({
      ...childOptions(options, config, observe),
      graphs,
      storage,
      abortGrace,
      size: config.executors,
    }),
  }
}

/** What every process of user code gets. */
const childOptions = (options: HeddleOptions, config: ServerConfig, observe: Observe) => ({
  projectDir: resolve(options.projectDir ?? '.'),
  env: options.env ?? executorVariables(processVariables(), {}),
  observe,
  stallMs: config.executorStallSeconds * 1_000,
  ...(config.executorMemoryMb !== undefined && { memoryMb: config.executorMemoryMb }),
})

function graphSources(given: HeddleOptions['graphs'], projectDir: string): GraphSource[] {
  if (Array.isArray(given)) return [...(given as readonly GraphSource[])]
  // JavaScript may leave it out, or misspell it.
  if (typeof given !== 'object' || given === null) {
    throw new ConfigError('createHeddle needs graphs: an object of graph ids with graphs or "path:export".')
  }
  return Object.entries(given as Record<string, GraphSetting>).map(([graph_id, setting]): GraphSource => {
    if (typeof setting === 'object' && setting !== null && 'graph_id' in setting) return setting as GraphSource
    const isValue = typeof setting === 'function' || (typeof setting === 'object' && setting !== null)
    if (isValue) return { graph_id, value: setting }
    const colon = typeof setting === 'string' ? setting.lastIndexOf(':') : 0
    if (typeof setting !== 'string' || colon <= 0) {
      throw new ConfigError(`The graph "${graph_id}" must be a graph or "path:export", not "${String(setting)}".`)
    }
    return { graph_id, path: resolve(projectDir, setting.slice(0, colon)), export: setting.slice(colon + 1) }
  })
}

async function openBus({ database, redis }: HeddleOptions, config: ServerConfig, observe: Observe): Promise<Bus> {
  if (redis !== undefined) {
    const { createRedisBus } = await import('./bus/redis.ts')
    return createRedisBus({
      url: redis.uri,
      observe,
      ...(redis.prefix !== undefined && { prefix: redis.prefix }),
      ...(redis.cluster !== undefined && { cluster: redis.cluster }),
    })
  }
  if (database === undefined || !('uri' in database)) return createMemoryBus(observe)
  const { createPostgresBus } = await import('./bus/postgres.ts')
  const { openNotify } = await import('./db/notify.ts')
  return createPostgresBus({
    observe,
    hintsOnly: config.aesKeys !== undefined,
    connect: (handlers) => openNotify({ uri: database.uri, ...handlers }),
  })
}
