import { Client } from '@langchain/langgraph-sdk'
import { afterAll, expect, test, vi } from 'vitest'
import { heddle, makeProject } from '../support/cli.ts'
import { until } from '../support/until.ts'

const speaker = (word: string) => `
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ said: Annotation<string[]>({ reducer: (a, b) => [...a, ...b], default: () => [] }) })
export const graph = new StateGraph(State)
  .addNode('say', (): { said: string[] } => ({ said: ['${word}'] }))
  .addEdge('__start__', 'say').addEdge('say', '__end__').compile()
`
// Says how far it is, and goes on when the gate file is there.
const waiter = `
import { existsSync } from 'node:fs'
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ waited: Annotation<string> })
export const graph = new StateGraph(State)
  .addNode('wait', async (_, config) => {
    config.writer?.('waiting')
    while (!existsSync(process.env.GATE as string)) await new Promise((resolve) => setTimeout(resolve, 20))
    return { waited: 'to the end' }
  })
  .addEdge('__start__', 'wait').addEdge('wait', '__end__').compile()
`
const project = makeProject({
  'speaker.ts': speaker('one'),
  'waiter.ts': waiter,
  'langgraph.json': JSON.stringify({ graphs: { speaker: './speaker.ts:graph', waiter: './waiter.ts:graph' } }),
})
const server = heddle(['dev', '--config', project.config, '--port', '0'], { env: { GATE: `${project.dir}/gate` } })
const client = server.shown(/^Heddle \S+ on (\S+)$/m).then((match) => new Client({ apiUrl: match[1] }))
afterAll(async () => {
  await server.stop()
  project.remove()
})

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

test('a save changes what new runs do, and leaves threads and running streams alone', async () => {
  const { runs, threads } = await client
  const { thread_id } = await threads.create()
  expect(await runs.wait(thread_id, 'speaker', { input: { said: [] } })).toEqual({ said: ['one'] })

  const seen: unknown[] = []
  let begun = false
  const following = (async () => {
    const input = {}
    for await (const chunk of runs.stream(null, 'waiter', { input, streamMode: ['custom', 'values'] })) {
      if (chunk.event === 'custom') begun = true
      seen.push(chunk.event === 'values' || chunk.event === 'custom' ? chunk.data : chunk.event)
    }
  })()
  await until('the waiter waits', () => begun)

  project.write('speaker.ts', speaker('two'))
  await server.shown(/^Reloaded 2 graphs in \d+ ms after a change of speaker\.ts$/m)
  expect(await runs.wait(thread_id, 'speaker', { input: { said: [] } })).toEqual({ said: ['one', 'two'] })

  project.write('gate', '')
  await following
  expect(seen).toContain('waiting')
  expect(seen).toContainEqual({ waited: 'to the end' })
  expect(seen.filter((event) => event === 'error')).toEqual([])
})

test('a graph that does not load is said with file and line, stops no other, and works again when it is mended', async () => {
  const { runs } = await client
  project.write('speaker.ts', `${speaker('three')}\nconst broken = ;\n`)
  await server.shown(/ error .*speaker\.ts:\d+.*\n(.*\n)*Reloaded 1 of 2 graphs in /)
  await expect(runs.wait(null, 'speaker', { input: { said: [] } })).rejects.toThrow(/speaker\.ts:\d+/)
  expect(await runs.wait(null, 'waiter', { input: {} })).toEqual({ waited: 'to the end' })

  const broken = server.output().length
  project.write('speaker.ts', speaker('four'))
  await server.shown(/^Reloaded 2 graphs in \d+ ms after a change of speaker\.ts$/m, broken)
  expect(await runs.wait(null, 'speaker', { input: { said: [] } })).toEqual({ said: ['four'] })
})

test('a change of langgraph.json asks for a restart', async () => {
  await client
  project.write('langgraph.json', JSON.stringify({ graphs: { speaker: './speaker.ts:graph' } }))
  await server.shown(/^langgraph\.json or its env changed: stop and start heddle dev to use it\.$/m)
  project.write('langgraph.json', '{')
  await server.shown(/langgraph\.json:1:2 is not valid JSON/)
})
