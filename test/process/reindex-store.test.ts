// The semantic index from the command line: what a changed setting says at the start, `heddle reindex-store`, and that what
// was stored before is found afterwards.

import { Client } from '@langchain/langgraph-sdk'
import { afterAll, expect, test, vi } from 'vitest'
import { heddle, heddleEnds, makeProject, type Running } from '../support/cli.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 180_000 })

const project = makeProject({
  'package.json': '{"type": "module"}',
  'graph.mjs': `import { Annotation, END, START, StateGraph } from '@langchain/langgraph'
    export const graph = new StateGraph(Annotation.Root({ a: Annotation() })).addNode('n', () => ({})).addEdge(START, 'n').addEdge('n', END).compile()`,
  // where letters stand in the alphabet, early or late
  'embed.mjs': `const halves = (text) => [...text].reduce(([a, b], c) => (c < 'n' ? [a + 1, b] : [a, b + 1]), [0, 0])
    export const two = async (texts) => texts.map(halves)
    export const three = async (texts) => texts.map((text) => [...halves(text), 0.01])`,
})
afterAll(() => project.remove())
const configure = (store: object) =>
  project.write('langgraph.json', JSON.stringify({ graphs: { g: './graph.mjs:graph' }, store }))
const start = ['start', '--data-dir', 'data', '--config', project.config, '--port', '0', '--host', '127.0.0.1']
const reindex = ['reindex-store', '--data-dir', 'data', '--config', project.config]
const env = { LOG_LEVEL: 'warn' }
const at = { cwd: project.dir, env }

/** What is asked of a server while it runs. */
async function withServer<T>(work: (store: Client['store'], server: Running) => Promise<T>): Promise<T> {
  const server = heddle(start, at)
  const [, url] = await server.shown(/on (http:\S+) /)
  try {
    const client = new Client({ apiUrl: url as string, apiKey: null })
    return await work(client.store, server)
  } finally {
    await server.stop()
  }
}
const best = async (store: Client['store'], query: string) =>
  (await store.searchItems(['n'], { query })).items.map(({ key }) => key)

test('items stored before there was an index, or under another, are found after reindexing', async () => {
  configure({})
  await withServer(async (store) => {
    await store.putItem(['n'], 'early', { text: 'abc', other: 'xyz' })
    await store.putItem(['n'], 'late', { text: 'xyz', other: 'abc' })
    await store.putItem(['n'], 'not', { text: 'abc' }, { index: false })
  })
  expect((await heddleEnds(reindex, at)).stderr).toContain('there is no store.index, so there is nothing to embed')

  const two = { index: { dims: 2, embed: './embed.mjs:two', fields: ['text'] } }
  configure(two)
  await withServer(async (store, server) => {
    await server.shown(/items of the store have no vectors: run "heddle reindex-store" items=3/)
    expect(await best(store, 'aaa')).toEqual([])
  })
  const first = await heddleEnds(reindex, at)
  expect(first).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^Embedded 3 items with \.\/embed\.mjs:two \(embedded, /),
  })
  expect(first.stderr).toMatch(/3 of 3 items, 100 %, \d+\/s\n/)
  expect((await heddleEnds(reindex, at)).stdout).toMatch(/^Nothing to do: every item has its vectors /)
  await withServer(async (store, server) => {
    expect(server.output()).not.toContain('reindex-store')
    // what was not to be indexed is not
    expect(await best(store, 'aaa')).toEqual(['early', 'late'])
  })

  configure({ index: { dims: 3, embed: './embed.mjs:three', fields: ['other'] } })
  const refused = await heddleEnds(start, at)
  expect(refused.code).toBe(1)
  expect(refused.stderr).toContain('dims is 3 and was 2')
  expect(refused.stderr).toContain('Run "heddle reindex-store"')
  expect((await heddleEnds(reindex, at)).stdout).toContain('Embedded 3 items with ./embed.mjs:three')
  await withServer(async (store) => {
    expect(await best(store, 'aaa')).toEqual(['late', 'early'])
  })
})

test('a function that cannot be loaded stops the start with its name', async () => {
  configure({ index: { dims: 2, embed: './missing.mjs:embed' } })
  const refused = await heddleEnds(start, at)
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/^heddle: store\.index\.embed "\.\/missing\.mjs:embed" could not be loaded: .*\n$/m)
})
