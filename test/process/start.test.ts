import { Client } from '@langchain/langgraph-sdk'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { heddle, heddleEnds, makeProject, type Running } from '../support/cli.ts'
import { createDatabase, needed, type TestDatabase } from '../support/databases.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const graph = (body: string) => `
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ seen: Annotation })
export const graph = new StateGraph(State)
  .addNode('look', () => ({ seen: ${body} }))
  .addEdge('__start__', 'look').addEdge('look', '__end__').compile()
`
const project = makeProject({
  'graph.mjs': graph('{ pid: process.pid, mine: process.env.MINE, database: process.env.DATABASE_URI ?? null }'),
  'broken.ts': 'export const graph = 1 +\n',
  'langgraph.json': JSON.stringify({ graphs: { look: './graph.mjs:graph' }, env: { MINE: 'from the project' } }),
  'broken.json': JSON.stringify({ graphs: { look: './graph.mjs:graph', broken: './broken.ts:graph' } }),
})
const running: Running[] = []
const begin = (args: string[], env: Record<string, string> = {}): Running => {
  const server = heddle(['start', '--config', project.config, '--host', '127.0.0.1', ...args], { env })
  running.push(server)
  return server
}
let database: TestDatabase
beforeAll(async () => {
  database = await createDatabase({ migrated: false })
})
afterAll(async () => {
  await Promise.all(running.map((server) => server.stop('SIGKILL')))
  await database.drop()
  project.remove()
})
const address = async (server: Running) => (await server.shown(/^Heddle \S+ on (\S+) \(role \w+\)$/m))[1] as string
const seenBy = async (apiUrl: string) =>
  (
    (await new Client({ apiUrl }).runs.wait(null, 'look', { input: { seen: null } })) as {
      seen: Record<string, unknown>
    }
  ).seen

test('processes that start together on an empty database migrate it once, and share the work by role', async () => {
  const env = { DATABASE_URI: database.uri, REDIS_URI: needed('TEST_REDIS_URI'), REDIS_KEY_PREFIX: `${process.pid}:` }
  const api = begin(['--port', '0', '--role', 'api'], env)
  const worker = begin(['--role', 'worker'], env)
  const apiUrl = await address(api)
  await worker.shown(/^Heddle \S+ works on runs \(role worker\)$/m)
  await api.shown(/^ {2}bus {7}redis/im)
  expect(api.output()).not.toContain(new URL(database.uri).password || 'no password')
  expect(await seenBy(apiUrl)).toEqual({ pid: expect.any(Number), mine: 'from the project', database: null })
  expect((await api.stop()).code).toBe(0)
  expect((await worker.stop()).code).toBe(0)
})

test('one process on Postgres alone does everything, and logs JSON when asked to', async () => {
  const server = begin(['--port', '0'], { POSTGRES_URI: database.uri, LOG_JSON: 'true', MINE: 'from the process' })
  const [, apiUrl = ''] = await server.shown(/"url":"([^"]+)"/)
  expect(await seenBy(apiUrl)).toMatchObject({ mine: 'from the process' })
  const { code, stdout, stderr } = await server.stop('SIGINT')
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
  const kinds = stderr
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { kind: string }).kind)
  expect(kinds).toEqual(expect.arrayContaining(['server_listening', 'request_done', 'run_settled', 'server_closing']))
})

test('an embedded database serves when it is asked for, and DATABASE_URI is ignored with a word', async () => {
  const server = begin(['--port', '0', '--data-dir', `${project.dir}/data`], { DATABASE_URI: database.uri })
  expect(await seenBy(await address(server))).toMatchObject({ mine: 'from the project' })
  expect(server.output()).toContain('DATABASE_URI is ignored: --data-dir asks for the embedded database')
  expect((await server.stop()).code).toBe(0)
})

test('a graph that does not load stops the start with one sentence', async () => {
  const file = `${project.dir}/broken.json`
  const ended = await heddleEnds(['start', '--config', file, '--port', '0'], {
    env: { DATABASE_URI: database.uri, LOG_LEVEL: 'fatal' },
  })
  expect(ended).toMatchObject({ code: 1, stdout: '' })
  expect(ended.stderr).toMatch(new RegExp(`^heddle: ${file}: graphs\\.broken: .*broken\\.ts:\\d.*\\n$`))
})
