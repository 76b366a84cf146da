// The log: a reader of observations that writes lines with pino, as JSON or for people. In charge of levels and words;
// must never write a password, and never throw.

import { pino } from 'pino'
import type { Environment } from '../config.ts'
import { messageOf } from '../errors.ts'
import type { Observation, Observe } from '../observe.ts'

type Level = 'debug' | 'info' | 'warn' | 'error'
type Entry = [level: Level, message: string, fields?: Record<string, unknown>]

/** Where lines go, some at once; `process.stderr` or something like it. */
export interface LineSink {
  write(lines: string): unknown
}

/** Reads observations; what it was told is written a moment later, or by `flush`. */
export type Log = Observe & { flush(): void }

/** How long a line may wait for others that are written with it. */
const TOGETHER_MS = 10

/** Makes the reader of observations. Lines go to `sink`, one for each observation at or above the level, those of a moment
 *  together: nobody's answer waits for them. A warning or an error is written at once, behind what waits: it is there
 *  whatever happens next. */
export function createLog(options: Environment['log'], sink: LineSink): Log {
  let waiting: { said: Entry; kind: string; at: number }[] = []
  const format = options.json ? forMachines() : forPeople(options.color)
  const least = options.level === 'silent' ? Number.POSITIVE_INFINITY : rank(options.level)
  const flush = () => {
    const written = waiting
    waiting = []
    let lines = ''
    for (const { said, kind, at } of written) {
      const [level, message, fields] = said
      lines += format(level, at, message, { ...fields, kind })
    }
    if (lines !== '') sink.write(withoutPasswords(lines))
  }
  const log = (observation: Observation) => {
    const said = entry(observation)
    if (rank(said[0]) < least) return
    waiting.push({ said, kind: observation.kind, at: Date.now() })
    if (rank(said[0]) >= rank('warn')) flush()
    else if (waiting.length === 1) setTimeout(flush, TOGETHER_MS)
  }
  return Object.assign(log, { flush })
}

const rank = (level: pino.Level): number => pino.levels.values[level] as number

/** The level, words and fields of an observation. */
export function entry(seen: Observation): Entry {
  switch (seen.kind) {
    case 'server_listening':
      return ['info', 'listening', { url: seen.url, database: seen.database, bus: seen.bus, graphs: seen.graphs }]
    case 'worker_started':
      return ['info', 'works on runs', { database: seen.database, bus: seen.bus, graphs: seen.graphs }]
    case 'server_closing':
      return ['info', 'closing', { reason: seen.reason }]
    case 'request_done':
      return [
        requestLevel(seen),
        `${seen.method} ${seen.path} ${seen.status}`,
        {
          method: seen.method,
          path: seen.path,
          status: seen.status,
          ms: round(seen.ms),
          request_id: seen.request_id,
        },
      ]
    case 'request_failed':
      return ['error', `${seen.method} ${seen.path} failed`, { request_id: seen.request_id, ...failure(seen.error) }]
    case 'graph_loaded':
      return ['debug', `graph ${seen.graph_id} loaded`, { ms: round(seen.ms) }]
    case 'graph_failed_to_load':
      return ['error', seen.message, { graph_id: seen.graph_id }]
    case 'executor_started':
      return ['debug', 'executor started', { pid: seen.pid, ms: round(seen.ms) }]
    case 'executor_exited':
      return [exitLevel(seen), `executor ended: ${seen.cause}`, { pid: seen.pid, runs: seen.runs }]
    case 'executor_output':
      return [seen.stream === 'stderr' ? 'warn' : 'info', seen.text.trimEnd()]
    case 'app_loaded':
      return ['debug', 'custom app loaded', { app: seen.app, routes: seen.routes ?? 'all', ms: round(seen.ms) }]
    case 'app_failed_to_load':
      return ['error', seen.message, { app: seen.app }]
    case 'app_exited':
      return [exitLevel({ ...seen, runs: [] }), `custom app ended: ${seen.cause}`, { app: seen.app, pid: seen.pid }]
    case 'app_output':
      return [seen.stream === 'stderr' ? 'warn' : 'info', seen.text.trimEnd(), { app: seen.app }]
    case 'store_unembedded':
      return ['warn', 'items of the store have no vectors: run "heddle reindex-store"', { items: seen.items }]
    case 'failpoints_set':
      return ['warn', 'failpoints are set: this process will fail on purpose', { names: seen.names }]
    case 'config_ignored':
      return ['warn', `${seen.key} is ignored: ${seen.reason}`]
    case 'event_loop_delayed':
      return ['warn', `${seen.where} was held up`, { ms: round(seen.ms) }]
    case 'webhook_delivered':
      return ['debug', 'webhook delivered', { ...webhookOf(seen), status: seen.status }]
    case 'webhook_failed':
      return [
        'warn',
        seen.again_in_s === undefined ? 'webhook given up' : 'webhook not delivered, and tried again',
        { ...webhookOf(seen), reason: seen.reason, again_in_s: seen.again_in_s },
      ]
    case 'database_failed':
      return ['error', `database: ${seen.where}`, failure(seen.error)]
    case 'database_restored':
      return ['info', `database restored: ${seen.where}`, { down_ms: round(seen.down_ms) }]
    case 'bus_failed':
      return ['warn', `bus: ${seen.where}`, failure(seen.error)]
    case 'bus_restored':
      return ['info', 'bus restored']
    case 'threads_swept': {
      const { deleted, pruned, collected } = seen
      return ['info', 'threads swept', { deleted, pruned, collected }]
    }
    case 'background_failed':
      return ['error', `${seen.service} failed`, failure(seen.error)]
    case 'cron_fired':
      return ['debug', 'cron fired', { ...cronOf(seen), run_id: seen.run_id, late_ms: seen.late_ms }]
    case 'cron_not_fired':
      return [
        seen.disabled ? 'error' : 'warn',
        `cron ${seen.disabled ? 'disabled' : 'not fired'}: ${seen.reason}`,
        cronOf(seen),
      ]
    default:
      return runEntry(seen)
  }
}

const cronOf = ({ cron_id, slot }: { cron_id: string; slot: string }) => ({ cron_id, slot })

function runEntry(seen: Extract<Observation, { kind: `run_${string}` | 'runs_rescued' }>): Entry {
  switch (seen.kind) {
    case 'run_created':
      return createdEntry(seen)
    case 'run_claimed':
      return [
        seen.waited_ms >= LONG_WAIT_MS ? 'info' : 'debug',
        seen.waited_ms >= LONG_WAIT_MS ? 'run claimed after a long wait' : 'run claimed',
        { ...runOf(seen), waited_ms: round(seen.waited_ms) },
      ]
    case 'run_events_capped':
      return ['warn', `the stream of a run is cut at its limit of ${seen.limit}`, { ...runOf(seen), max: seen.max }]
    case 'run_settled':
      return [
        seen.outcome === 'error' || seen.outcome === 'timeout' ? 'warn' : 'info',
        `run ${seen.outcome}`,
        {
          ...runOf(seen),
          outcome: seen.outcome,
          ms: round(seen.ms),
          ...(seen.error !== undefined && { error: seen.error }),
        },
      ]
    case 'run_lease_lost':
      return ['warn', 'lease lost', runOf(seen)]
    case 'runs_rescued':
      return ['warn', 'runs taken over from a lost worker', { run_ids: seen.run_ids, exhausted: seen.exhausted }]
  }
}

/** Longer than this is said of a run at the level that is shown by default. */
const LONG_WAIT_MS = 10_000

function createdEntry({ run_id, thread_id, strategy, waits }: Extract<Observation, { kind: 'run_created' }>): Entry {
  const run = { run_id, thread_id, attempt: 0, strategy }
  if (waits === undefined) return ['debug', 'run created', run]
  const words = { not_before: 'its time', thread_busy: 'its thread', no_free_slot: 'a free slot' }[waits.reason]
  // A free slot comes in a moment as a rule; the others last.
  const level = waits.reason === 'no_free_slot' ? 'debug' : 'info'
  return [level, `run created, waits for ${words}`, { ...run, ...waits }]
}

const webhookOf = (seen: { delivery_id: string; run_id: string; attempt: number; ms: number }) => ({
  delivery_id: seen.delivery_id,
  run_id: seen.run_id,
  attempt: seen.attempt,
  ms: round(seen.ms),
})

const runOf = (seen: { run_id: string; thread_id: string; attempt: number }) => ({
  run_id: seen.run_id,
  thread_id: seen.thread_id,
  attempt: seen.attempt,
})

const round = (ms: number): number => Math.round(ms * 10) / 10

// Probes come every second or so and say nothing.
const requestLevel = (seen: { path: string; status: number }): Level =>
  seen.status >= 500 ? 'error' : seen.path === '/ok' || seen.path === '/info' ? 'debug' : 'info'

// After a reload, the executor of before ends by itself.
const exitLevel = (seen: { cause: string; runs: string[] }): Level =>
  seen.cause === 'exited with code 0' && seen.runs.length === 0 ? 'debug' : 'warn'

const failure = (error: unknown): Record<string, unknown> => ({
  error: messageOf(error),
  ...(error instanceof Error && { stack: error.stack }),
  ...(error instanceof Error && error.cause !== undefined && { cause: messageOf(error.cause) }),
})

/** Puts stars where an address in the text holds a password. */
export const withoutPasswords = (text: string): string => text.replace(/(:\/\/[^\s:/@"]*):[^\s/@"]+@/g, '$1:***@')

const colors: Record<string, string> = {
  debug: '\x1b[2m',
  info: '\x1b[36m',
  warn: '\x1b[33m',
  error: '\x1b[31m',
  fatal: '\x1b[31m',
}

type Fields = Record<string, unknown>

/** Writes one entry as a line. */
type Format = (level: Level, at: number, message: string, fields: Fields) => string

function forMachines(): Format {
  let now = 0
  let line = ''
  const logger = pino(
    {
      level: 'trace',
      base: null,
      timestamp: () => `,"time":"${new Date(now).toISOString()}"`,
      formatters: { level: (level) => ({ level }) },
    },
    {
      write: (written: string) => {
        line = written
      },
    },
  )
  return (level, at, message, fields) => {
    now = at
    logger[level](fields, message)
    return line
  }
}

/** What the message says, or what is no part of the line. */
const UNSAID = new Set(['kind', 'stack', 'method', 'path', 'status', 'outcome'])

/** Not by way of JSON: to write it and read it again took a tenth of the server's time on a small run. */
function forPeople(color: boolean): Format {
  return (level, at, message, fields) => {
    const name = level.padEnd(5)
    let line = `${new Date(at).toTimeString().slice(0, 8)} ${color ? `${colors[level] ?? ''}${name}\x1b[0m` : name} ${message}`
    for (const key in fields) {
      const value = fields[key]
      if (value === undefined || UNSAID.has(key)) continue
      line += ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`
    }
    const { stack } = fields
    if (typeof stack === 'string') line += `\n${stack.split('\n').slice(1).join('\n')}`
    return `${line}\n`
  }
}
