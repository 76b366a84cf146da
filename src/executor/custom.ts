// The custom app: code of the project that answers requests, in a process of its own. In charge of that process's life: start,
// restart after a crash, exchange on reload, and its end; must never let it take anything else with it.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { ApiError, ConfigError } from '../errors.ts'
import type { Observe } from '../observe.ts'
import type { AppReport, AppRequest, AppRoute, AppSource } from './custom-protocol.ts'
import { createStreamLink } from './link.ts'
import { startProcess } from './process.ts'

export interface CustomAppOptions {
  projectDir: string
  /** The whole environment of the process. */
  env: Record<string, string | undefined>
  observe: Observe
  memoryMb?: number
  /** How long the process may block its event loop, in milliseconds; 0 for ever. */
  stallMs?: number
}

/** A process that has loaded the app. */
export interface AppInstance {
  /** Where it takes requests. */
  readonly socketPath: string
  /** Resolves when it is gone, with what it ended of. */
  readonly ended: Promise<string>
}

export interface CustomApp {
  /** `path:export`, for people. */
  readonly name: string
  /** Where the server is to listen for what the app asks it. */
  readonly apiSocket: string
  /** Loads the app, unless it is loaded or being started anew. Resolves with what is wrong, if it does not load. */
  start(): Promise<string | undefined>
  /** Loads it anew. Where that fails, what was loaded before goes on; otherwise it ends when its requests have. Throws `ApiError`
   *  shutting_down. */
  reload(): Promise<string | undefined>
  /** What was wrong when it was last loaded. */
  error(): string | undefined
  /** The routes as last loaded; null where every request is the app's, or where it is not known which are. */
  routes(): AppRoute[] | null
  /** What serves, at once or in a moment. Throws `ApiError` app_unavailable. */
  open(): Promise<AppInstance>
  close(): Promise<void>
}

interface Running extends AppInstance {
  drain(): void
  close(): Promise<void>
}

/** One that ends sooner may end each time: there is a growing pause before it is started anew. */
const STEADY_MS = 10_000
const MAX_DELAY_MS = 5_000
/** How long a request waits for an app that is starting anew. */
const PATIENCE_MS = 5_000

/** Makes the custom app of `path:export`, or of both; nothing is started before `start()`. Throws `ConfigError`. */
export function createCustomApp(given: string | AppSource, options: CustomAppOptions): CustomApp {
  const { observe } = options
  const app = sourceOf(given, options.projectDir)
  const name = `${relative(options.projectDir, app.path)}:${app.export}`
  // Only this user may enter it, so nobody else can connect.
  const folder = mkdtempSync(join(tmpdir(), 'heddle-'))
  const apiSocket = join(folder, 'api')
  const running = new Set<Running>()
  const waiting = new Set<() => void>()
  let starting: Promise<string | undefined> | undefined
  let serving: { instance: Running; turn: number } | undefined
  let routes: AppRoute[] | null = null
  let wrong: string | undefined
  let why = `The custom app ${name} has not been started.`
  let turns = 0
  let failures = 0
  let isRestarting = false
  let closing = false

  // Resolves with what is wrong.
  async function load(): Promise<string | undefined> {
    if (closing) throw new ApiError('shutting_down')
    const turn = ++turns
    const began = performance.now()
    const { instance, loaded } = launch(join(folder, `app-${turn}`))
    const report = await loaded
    if (report.type === 'failed') {
      instance.drain()
      if (!closing) observe({ kind: 'app_failed_to_load', app: name, message: report.message })
      why = report.message
      wrong = report.message
      return report.message
    }
    if (closing || turn < (serving?.turn ?? 0)) {
      instance.drain()
      return undefined
    }
    serving?.instance.drain()
    serving = { instance, turn }
    wrong = undefined
    routes = report.routes
    const loadedAt = performance.now()
    observe({ kind: 'app_loaded', app: name, routes: routes?.length ?? null, ms: Math.round(loadedAt - began) })
    void instance.ended.then((cause) => {
      if (serving?.turn !== turn) return
      serving = undefined
      why = `The custom app ${name} ended: ${cause}.`
      failures = performance.now() - loadedAt > STEADY_MS ? 0 : failures + 1
      void restart()
    })
    for (const tell of waiting) tell()
    return undefined
  }

  async function restart(): Promise<void> {
    if (isRestarting) return
    isRestarting = true
    while (!closing && serving === undefined) {
      if (failures > 0) await pause(Math.min(100 * 2 ** failures, MAX_DELAY_MS))
      if (closing || serving) break
      if ((await load()) !== undefined) failures++
    }
    isRestarting = false
  }

  function launch(socketPath: string): { instance: Running; loaded: Promise<AppReport> } {
    const child = startProcess({
      ...options,
      entry: 'custom-child',
      output: (stream, text) => observe({ kind: 'app_output', app: name, stream, text }),
      name: (pid) => `custom app ${name} (process ${pid})`,
      // What it has not answered is answered when it has ended, at once.
      stalled: () => {},
    })
    const link = createStreamLink<AppRequest, AppReport>(child.pipe)
    const ended = new Promise<string>((resolve) => {
      link.onClose((error) => void child.ending(error).then(({ cause }) => resolve(cause)))
    })
    const loaded = new Promise<AppReport>((loaded) => {
      link.onFrame(({ head }) => loaded(head))
      void ended.then((cause) =>
        loaded({ type: 'failed', message: `The custom app ended while it was loaded: ${cause}.` }),
      )
    })
    link.send({ type: 'load', app, project_dir: options.projectDir, folder, socket: socketPath, api: apiSocket })
    const instance: Running = {
      socketPath,
      ended,
      drain: () => link.send({ type: 'drain' }),
      async close() {
        link.close()
        await child.close()
      },
    }
    running.add(instance)
    void ended.then((cause) => {
      running.delete(instance)
      rmSync(socketPath, { force: true })
      if (!closing) observe({ kind: 'app_exited', app: name, pid: child.pid, cause })
    })
    return { instance, loaded }
  }

  return {
    name,
    apiSocket,
    error: () => wrong,
    routes: () => routes,
    start() {
      if (serving || isRestarting) return Promise.resolve(undefined)
      starting ??= load().finally(() => {
        starting = undefined
      })
      return starting
    },
    reload: () => load(),
    async open() {
      if (serving === undefined && isRestarting) await change()
      if (closing) throw new ApiError('shutting_down')
      if (serving) return serving.instance
      throw new ApiError('app_unavailable', isRestarting ? `${why} It is being started anew: try again later.` : why)
    },
    async close() {
      closing = true
      for (const tell of waiting) tell()
      await Promise.all([...running].map((instance) => instance.close()))
      rmSync(folder, { recursive: true, force: true })
    },
  }

  /** Resolves when there is an instance, or when it takes too long. */
  function change(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, PATIENCE_MS)
      waiting.add(done)
    })
  }
}

function sourceOf(given: string | AppSource, projectDir: string): AppSource {
  if (typeof given !== 'string') return given
  const colon = given.lastIndexOf(':')
  if (colon <= 0) throw new ConfigError(`The app must be "path:export", not "${given}".`)
  return { path: resolve(projectDir, given.slice(0, colon)), export: given.slice(colon + 1) }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref())
