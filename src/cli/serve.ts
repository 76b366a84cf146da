// What dev and start share: reading the project, ports, signals, the first lines on the screen. In charge of ending the
// process in order; must hold no rule of its own about graphs, runs or databases.

import { createServer } from 'node:net'
import { type Environment, executorVariables, processVariables, readEnvironment, type ServerConfig } from '../config.ts'
import { ConfigError, messageOf } from '../errors.ts'
import { type Project, readProject } from '../langgraph-json.ts'
import type { Observe } from '../observe.ts'
import { createLog } from './log.ts'
import { defaultExecutors, type ServeOptions, type StartOptions } from './options.ts'

/** A project with its environment read: what a command needs before it starts anything. */
export interface Setting {
  project: Project
  environment: Environment
  /** Environment of graph code. */
  executorEnv: Record<string, string>
  config: ServerConfig
  observe: Observe
}

/** Reads langgraph.json and the environment (the project's `env` below the process's own). Throws `ConfigError`. */
export function readSetting(options: ServeOptions, role: StartOptions['role'] = 'all'): Setting {
  const variables = processVariables()
  const project = readProject(options.config, variables)
  const environment = readEnvironment({ ...project.env, ...variables })
  const observe = createLog(
    { ...environment.log, color: environment.log.color && process.stderr.isTTY },
    process.stderr,
  )
  // Whatever ends the process, what it said is written.
  process.on('exit', observe.flush)
  for (const { key, reason } of [...project.ignored, ...environment.ignored])
    observe({ kind: 'config_ignored', key, reason })
  return {
    project,
    environment,
    observe,
    executorEnv: executorVariables(variables, project.env),
    config: {
      ...environment.server,
      cors: { ...environment.server.cors, ...project.cors },
      webhooks: { ...environment.server.webhooks, ...project.webhooks },
      disabled: project.disabled,
      ...project.retention,
      executors: options.executors ?? defaultExecutors(role),
      ...(options.nJobsPerWorker !== undefined && { jobsPerWorker: options.nJobsPerWorker }),
    },
  }
}

/**
 * The port to listen on. A port that was asked for must be free (`ConfigError`); of the default, the next free one within
 * 20 is taken.
 */
export async function choosePort(
  host: string,
  asked: number | undefined,
  preferred: number,
  roam: boolean,
): Promise<number> {
  const wanted = asked ?? preferred
  if (await isFree(host, wanted)) return wanted
  if (asked !== undefined || !roam) {
    throw new ConfigError(
      `Port ${wanted} on ${host} is in use: stop what listens there, or choose another with --port.`,
    )
  }
  for (let port = preferred + 1; port <= preferred + 20; port++) if (await isFree(host, port)) return port
  throw new ConfigError(`Ports ${preferred} to ${preferred + 20} on ${host} are all in use: choose one with --port.`)
}

const isFree = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false)
      else reject(new ConfigError(`Cannot listen on ${host}:${port}: ${messageOf(error)}.`))
    })
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve(true)))
  })

/** What a signal ends. */
interface Closable {
  close(options: { now: boolean }): Promise<void>
}

/** How long a process that was told twice may take to give back what it holds, and one that was told while it started to
 *  come so far that it can. */
const HURRY_MS = 1_500
const START_MS = 5_000

/** Closes in order on the first SIGINT or SIGTERM. On the second, or where the first came before it had started, waits for
 *  nothing and gives back what it can; on the third, or the second before it had started, it just ends. Returns the way to
 *  say that it has started. */
export function closeOnSignal(options: { graceSeconds: number; quiet: boolean }): (started: Closable) => void {
  let started: Closable | undefined
  let signals = 0
  let code = 0
  const leave = (): never => process.exit(code)
  const hurry = (closable: Closable) => {
    setTimeout(leave, HURRY_MS)
    closable.close({ now: true }).then(leave, leave)
  }
  const onSignal = (signal: 'SIGINT' | 'SIGTERM') => {
    signals++
    if (signals > 1 || started === undefined) code = signal === 'SIGINT' ? 130 : 143
    if (signals > 2 || (signals > 1 && started === undefined)) leave()
    if (started === undefined) return void setTimeout(leave, START_MS)
    if (signals > 1) return hurry(started)
    const words = `Closing; running runs have up to ${options.graceSeconds} s to get to a safe point.`
    if (!options.quiet) say(`${words} Once more to stop at once.`)
    started.close({ now: false }).then(
      () => signals === 1 && leave(),
      (error: unknown) => {
        process.stderr.write(`heddle: closing failed: ${messageOf(error)}\n`)
        process.exit(1)
      },
    )
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return (closable) => {
    started = closable
    if (signals > 0) hurry(closable)
  }
}

/** Writes a line for the person who started the command. */
export const say = (line: string): void => void process.stdout.write(`${line}\n`)

/** A host as it stands in an address that can be opened. */
export const openable = (host: string): string =>
  host === '0.0.0.0' || host === '::' ? 'localhost' : host.includes(':') ? `[${host}]` : host
