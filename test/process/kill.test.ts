import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from '@langchain/langgraph-sdk'
import { afterAll, expect, test, vi } from 'vitest'
import { heddle, makeProject, type Running } from '../support/cli.ts'
import { until } from '../support/until.ts'

// Every node writes its name into the ledger when it begins. Node four waits for the gate.
const graph = `
import { appendFileSync, existsSync } from 'node:fs'
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ done: Annotation({ reducer: (a, b) => [...a, ...b], default: () => [] }) })
const names = ['one', 'two', 'three', 'four', 'five', 'six']
const builder = new StateGraph(State)
for (const name of names) {
  builder.addNode(name, async () => {
    appendFileSync(process.env.LEDGER, name + '\\n')
    if (name === 'four') while (!existsSync(process.env.GATE)) await new Promise((resolve) => setTimeout(resolve, 20))
    return { done: [name] }
  })
}
names.forEach((name, i) => builder.addEdge(names[i - 1] ?? '__start__', name))
export const graph = builder.addEdge('six', '__end__').compile()
`
const project = makeProject({
  'graph.mjs': graph,
  ledger: '',
  'langgraph.json': JSON.stringify({ graphs: { steps: './graph.mjs:graph' } }),
})
const running: Running[] = []
afterAll(async () => {
  await Promise.all(running.map((server) => server.stop('SIGKILL')))
  project.remove()
})

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const begin = async () => {
  const env = { LEDGER: join(project.dir, 'ledger'), GATE: join(project.dir, 'gate'), HEDDLE_LEASE_SECONDS: '2' }
  const server = heddle(['dev', '--config', project.config, '--port', '0', '--no-reload'], { env })
  running.push(server)
  const [, apiUrl] = await server.shown(/^Heddle \S+ on (\S+)$/m)
  return { server, client: new Client({ apiUrl }) }
}
const ledger = () => readFileSync(join(project.dir, 'ledger'), 'utf8').trim().split('\n')

test('after kill -9 in the middle of a run, threads are intact, the run finishes, and no committed node runs twice', async () => {
  const first = await begin()
  const quiet = await first.client.threads.create({ metadata: { kept: 'yes' } })
  await first.client.store.putItem(['kept'], 'item', { value: 1 })
  const { thread_id } = await first.client.threads.create()
  const run = await first.client.runs.create(thread_id, 'steps', { input: { done: [] } })
  // Three nodes are committed when the state says that four is next.
  await until(
    'three nodes are committed',
    async () => (await first.client.threads.getState(thread_id)).next[0] === 'four',
    60_000,
  )
  await until('four begins', () => ledger().at(-1) === 'four')
  const ended = await first.server.stop('SIGKILL')
  expect(ended.code).toBeNull()

  const second = await begin()
  expect((await second.client.threads.get(quiet.thread_id)).metadata).toMatchObject({ kept: 'yes' })
  expect((await second.client.store.getItem(['kept'], 'item'))?.value).toEqual({ value: 1 })
  await until('four begins again', () => ledger().length === 5, 60_000)
  project.write('gate', '')
  const done = ['one', 'two', 'three', 'four', 'five', 'six']
  expect(await second.client.runs.join(thread_id, run.run_id)).toMatchObject({ done })
  expect((await second.client.runs.get(thread_id, run.run_id)).status).toBe('success')
  expect((await second.client.threads.get(thread_id)).status).toBe('idle')
  expect((await second.client.threads.getState(thread_id)).values).toEqual({ done })
  expect(ledger()).toEqual(['one', 'two', 'three', 'four', 'four', 'five', 'six'])
})
