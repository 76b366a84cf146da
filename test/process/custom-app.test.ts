// The custom app under the built command line: saved anew, broken, in the role that only delivers, and left alone by its server.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { Client } from '@langchain/langgraph-sdk'
import { afterAll, expect, test, vi } from 'vitest'
import { heddle, heddleEnds, makeProject, type Running } from '../support/cli.ts'
import { createDatabase } from '../support/databases.ts'
import { until } from '../support/until.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const graph = `
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ done: Annotation<boolean> })
export const graph = new StateGraph(State).addNode('do', () => ({ done: true }))
  .addEdge('__start__', 'do').addEdge('do', '__end__').compile()
`
const saying = (word: string) => `
import { appendFileSync } from 'node:fs'
import { Hono } from 'hono'
import { word } from './word.js'
export const app = new Hono()
app.use('/threads/*', async (c, next) => {
  await next()
  c.res.headers.set('x-word', word)
})
app.get('/word', (c) => c.json({ word, ${word}: true, pid: process.pid }))
app.post('/hook', async (c) => {
  appendFileSync(process.env.HOOKS!, JSON.stringify({ pid: process.pid, ...(await c.req.json()) }) + '\\n')
  return c.body(null, 204)
})
app.get('/wait', () => new Promise(() => {}))
`
const settings = (app: string) => JSON.stringify({ graphs: { g: './graph.ts:graph' }, http: { app } })
const makeOne = () =>
  makeProject({
    'graph.ts': graph,
    'app.ts': saying('first'),
    'word.ts': `export const word: string = 'one'`,
    'langgraph.json': settings('app.ts:app'),
    'broken.ts': 'export const app = {\n  fetch: 1 +\n}\n',
    'broken.json': settings('broken.ts:app'),
    'no-app.json': settings('word.ts:word'),
    'missing.json': settings('word.ts:app'),
  })
const project = makeOne()
const running: Running[] = []
const begin = (args: string[], env: Record<string, string> = {}): Running => {
  const server = heddle(args, { env: { HOOKS: `${project.dir}/hooks`, TMPDIR: project.dir, ...env } })
  running.push(server)
  return server
}
afterAll(async () => {
  await Promise.all(running.map((server) => server.stop('SIGKILL')))
  project.remove()
})
const json = async (address: string): Promise<Record<string, unknown>> => (await fetch(address)).json()
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
/** Where servers of this test keep their sockets. */
const folders = () => readdirSync(project.dir).filter((name) => /^heddle-\w{6}$/.test(name))

test('a save changes the app, a broken one is said with its place while the last good one goes on', async () => {
  const server = begin(['dev', '--config', project.config, '--port', '0'])
  const [, url] = await server.shown(/^Heddle \S+ on (\S+)$/m)
  await server.shown(/^ {2}app {7}app\.ts:app$/m)
  expect(await json(`${url}/word`)).toMatchObject({ word: 'one', first: true })
  const { thread_id } = await new Client({ apiUrl: url as string }).threads.create()
  const worded = async () => (await fetch(`${url}/threads/${thread_id}`)).headers.get('x-word')
  expect(await worded()).toBe('one')
  const before = (await json(`${url}/word`)).pid as number
  const waiting = fetch(`${url}/wait`).catch((error: unknown) => error)

  project.write('word.ts', `export const word: string = 'two'`)
  await server.shown(/^Reloaded 1 graphs and the app in \d+ ms after a change of word\.ts$/m)
  expect(await json(`${url}/word`)).toMatchObject({ word: 'two', first: true })
  expect(await worded()).toBe('two')
  // What was begun on the code of before ends on it.
  expect(isAlive(before)).toBe(true)

  project.write('app.ts', `${saying('second')}\nconst broken = ;\n`)
  await server.shown(/ error The custom app could not be loaded from app\.ts:\d+: Expression expected\./)
  await server.shown(/^Reloaded 1 graphs, not the app, in \d+ ms after a change of app\.ts$/m)
  expect(await json(`${url}/word`)).toMatchObject({ word: 'two', first: true })

  project.write('app.ts', saying('third'))
  await server.shown(/^Reloaded 1 graphs and the app in \d+ ms after a change of app\.ts$/m)
  expect(await json(`${url}/word`)).toMatchObject({ word: 'two', third: true })

  await server.stop()
  await waiting
  await until('every process of the app has gone', () => !isAlive(before))
  expect(folders()).toEqual([])
  project.write('app.ts', saying('first'))
})

test('an app that does not load when development starts is said by every answer, and serves once it is mended', async () => {
  // Its file lies outside of the project, and is watched all the same.
  const elsewhere = makeOne()
  elsewhere.write('app.ts', 'export const app =\n  1 +\n')
  const app = `../${basename(elsewhere.dir)}/app.ts`
  const other = makeProject({ 'graph.ts': graph, 'langgraph.json': settings(`${app}:app`) })
  const server = begin(['dev', '--config', other.config, '--port', '0'])
  const [, url] = await server.shown(/^Heddle \S+ on (\S+)$/m)
  await server.shown(/^ {2}app {7}\.\.\/\S+\/app\.ts:app \(does not load\)$/m)
  // Its middleware may guard the rest, so nothing is served without it.
  const refused = await fetch(`${url}/threads`, { method: 'POST', body: '{}' })
  expect([refused.status, await refused.json()]).toEqual([
    503,
    {
      code: 'app_unavailable',
      detail: expect.stringMatching(
        /^The custom app could not be loaded from \S+\/app\.ts:\d+: Expression expected\.$/,
      ),
    },
  ])
  elsewhere.write('app.ts', saying('mended'))
  await server.shown(/^Reloaded 1 graphs and the app in /m)
  expect(await json(`${url}/word`)).toMatchObject({ mended: true })
  expect(await json(`${url}/ok`)).toEqual({ ok: true })
  await server.stop()
  other.remove()
  elsewhere.remove()
})

test.each([
  ['broken.json', /^The custom app could not be loaded from broken\.ts:\d+: Expression expected\.$/],
  [
    'no-app.json',
    /^The custom app \(word\.ts\) is not an app: export a Hono app, or an object with fetch\(request\)\.$/,
  ],
  ['missing.json', /^The custom app \(word\.ts\) has no export "app"; it exports "word"\.$/],
])('in production, the app of %s stops the start with one sentence', async (file, sentence) => {
  const config = `${project.dir}/${file}`
  const args = ['start', '--config', config, '--port', '0', '--data-dir', `${project.dir}/data`]
  const { code, stdout, stderr } = await heddleEnds(args, { env: { TMPDIR: project.dir } })
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  const last = stderr.trim().split('\n').at(-1) ?? ''
  expect(last).toContain(`${config}: http.app: `)
  expect(last.split('http.app: ')[1]).toMatch(sentence)
  expect(folders()).toEqual([])
})

test('a worker starts the app for the first webhook, and both go with a server that is killed', async () => {
  const database = await createDatabase()
  const env = { DATABASE_URI: database.uri, LOG_LEVEL: 'debug' }
  const api = begin(['start', '--config', project.config, '--host', '127.0.0.1', '--port', '0', '--role', 'api'], env)
  const worker = begin(['start', '--config', project.config, '--role', 'worker'], env)
  const [, url] = await api.shown(/^Heddle \S+ on (\S+) \(role api\)$/m)
  await worker.shown(/^Heddle \S+ works on runs \(role worker\)$/m)
  expect(worker.output()).not.toContain('custom app loaded')
  const { pid } = (await json(`${url}/word`)) as { pid: number }
  const response = await fetch(`${url}/runs`, {
    method: 'POST',
    body: JSON.stringify({ assistant_id: 'g', input: {}, webhook: '/hook' }),
  })
  const { run_id } = (await response.json()) as { run_id: string }
  await worker.shown(/custom app loaded .*app=app\.ts:app/)
  const hooks = `${project.dir}/hooks`
  const line = await until(
    'the app of the worker was told',
    () => existsSync(hooks) && /^(.+)\n$/.exec(readFileSync(hooks, 'utf8'))?.[1],
    60_000,
  )
  const told = JSON.parse(line) as { pid: number; run_id: string }
  expect(told).toMatchObject({ run_id, status: 'success', values: { done: true } })
  expect(told.pid).not.toBe(pid)

  await Promise.all([api.stop('SIGKILL'), worker.stop('SIGKILL')])
  await until('the processes of the app have gone', () => !isAlive(pid) && !isAlive(told.pid))
  await until('their folders have gone', () => folders().length === 0)
  await database.drop()
})
