// What the tests of hostile input share: one listening server on a Postgres whose log is kept, with a thread on which something
// ran, and the judgement of what is a good refusal.

import { Annotation, END, START, StateGraph } from '@langchain/langgraph'
import { v7 } from 'uuid'
import { afterAll, beforeAll, expect } from 'vitest'
import { startPostgres } from '../../scripts/servers.mjs'
import { notes } from '../support/graphs/notes.ts'
import { type Known, type Operation, sampleOf } from '../support/operations.ts'
import { type Answer, createSender, type Sent } from '../support/raw.ts'
import { startServer, type TestServer } from '../support/stacks.ts'

export interface HostileServer {
  readonly server: TestServer
  readonly url: string
  readonly known: Known
  send(sent: Sent): Promise<Answer>
  /** The path of an operation with good parameters, and its required query. */
  pathOf(operation: Operation, put?: { param?: string; value: string }): string
  /** A good body. */
  sample(operation: Operation): unknown
  /** Lines of Postgres's log that tell of a statement that failed. */
  failures(): string[]
}

export const JSON_TYPE = { 'content-type': 'application/json' }

/** Says again what it was given. */
const echo = new StateGraph(Annotation.Root({ given: Annotation<unknown>(), again: Annotation<unknown>() }))
  .addNode('repeat', ({ given }) => ({ again: given }))
  .addEdge(START, 'repeat')
  .addEdge('repeat', END)
  .compile()

/** Starts the server before the suite of this file. */
export function hostileServer(): HostileServer {
  let log = ''
  let stopPostgres: (() => Promise<void>) | undefined
  let server: TestServer
  let sender: ReturnType<typeof createSender>
  let url = ''
  let known: Known = {}

  beforeAll(async () => {
    const postgres = await startPostgres({ onLog: (text) => (log += text) })
    stopPostgres = postgres.stop
    server = await startServer({ graphs: { notes, echo }, database: { uri: postgres.uri }, dev: true })
    url = (await server.heddle.listen()).url
    sender = createSender(url)
    const { thread_id } = await server.client.threads.create()
    const { run_id } = await server.client.runs.create(thread_id, 'notes', { input: { topic: 'x' } })
    await server.client.runs.join(thread_id, run_id)
    const { checkpoint } = await server.client.threads.getState(thread_id)
    const { checkpoint_id } = checkpoint
    const { cron_id } = await server.client.crons.create('notes', { schedule: '@yearly' })
    const ids = { thread_id, run_id, checkpoint_id, cron_id, delivery_id: v7(), uuid: thread_id }
    known = {
      ...ids,
      schedule: '@yearly',
      assistant_id: 'notes',
      graph_id: 'notes',
      key: 'k',
      version: 1,
      namespace: ['a'],
    }
    log = ''
  })
  afterAll(async () => {
    sender?.close()
    await server?.close()
    await stopPostgres?.()
  })

  return {
    get server() {
      return server
    },
    get url() {
      return url
    },
    get known() {
      return known
    },
    send: (sent) => sender.send(sent),
    pathOf(operation, put) {
      const value = (name: string) => (name === put?.param ? put.value : String(known[name] ?? 'x'))
      const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => value(name))
      const required = operation.query.filter(
        ({ name }) => ['namespace', 'key'].includes(name) && operation.name === 'getItem',
      )
      return required.length > 0 ? `${path}?${required.map(({ name }) => `${name}=${known[name]}`).join('&')}` : path
    },
    sample: (operation) => (operation.name === 'setLatest' ? { version: 1 } : sampleOf(operation.body ?? {}, known)),
    failures: () => log.split('\n').filter((line) => /\b(ERROR|FATAL|PANIC):/.test(line)),
  }
}

/** What an answer should be. */
export interface Wanted {
  status: number | readonly number[]
  code?: string
  detail?: RegExp
}

// Words that only the inside of the server knows.
const LEAK =
  /\b(select .* from|insert into|update .* set|pg_\w+|postgres|node_modules|zod)\b|\.[jt]s\b|\/(work|home|tmp|usr)\/| {4}at |\n/i

/** What is wrong with a refusal; undefined when it is as it should be. */
export function fault({ status, headers, text }: Answer, wanted: Wanted): string | undefined {
  if (![wanted.status].flat().includes(status)) return `${status} ${text.slice(0, 200)}`
  if (status < 400) return undefined
  if (headers['content-type'] !== 'application/json') return `is ${headers['content-type']}`
  if (headers['x-request-id'] === undefined) return 'has no request id'
  let body: { detail?: unknown; code?: unknown }
  try {
    body = JSON.parse(text)
  } catch {
    return `is no JSON: ${text.slice(0, 200)}`
  }
  const { detail, code, ...more } = body
  if (typeof detail !== 'string' || typeof code !== 'string' || Object.keys(more).length > 0) return `says ${text}`
  if (detail.length > 400 || LEAK.test(detail) || detail.includes('what the database can hold')) return `says ${detail}`
  if (wanted.code !== undefined && code !== wanted.code) return `has the code ${code}: ${detail}`
  if (wanted.detail && !wanted.detail.test(detail)) return `says ${detail}`
  return undefined
}

/** Runs cases a few at a time and gives those that came out wrong, each with what was wrong. */
export async function wrong<T>(
  cases: readonly T[],
  judge: (one: T) => Promise<string | undefined>,
  title: (one: T) => string,
): Promise<string[]> {
  const found: string[] = []
  const rest = [...cases]
  const work = async () => {
    for (let one = rest.shift(); one !== undefined; one = rest.shift()) {
      const problem = await judge(one)
      if (problem !== undefined) found.push(`${title(one)}: ${problem}`)
    }
  }
  await Promise.all(Array.from({ length: 6 }, work))
  return found
}

/** Nothing that was sent has left a mark: on prototypes, in the server's log, in Postgres's. */
export function expectUnharmed({ server, failures }: HostileServer): void {
  for (const prototype of [Object.prototype, Array.prototype, Function.prototype])
    expect(Object.keys(prototype), 'enumerable on a prototype').toEqual([])
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  const failed = server.seen.filter(({ kind }) => kind === 'request_failed' || kind === 'background_failed')
  expect(failed, 'what the server could not answer').toEqual([])
  expect(failures(), 'statements that failed').toEqual([])
}
