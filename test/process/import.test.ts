// heddle import-checkpoints, against a database that @langchain/langgraph-checkpoint-postgres wrote with a real graph: what people
// see of a thread afterwards, and how it goes on, is as it was there.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command, type CompiledStateGraph, type StateSnapshot } from '@langchain/langgraph'
import type { PostgresSaver as Saver } from '@langchain/langgraph-checkpoint-postgres'
import { PostgresSaver } from '@langchain/langgraph-checkpoint-postgres'
import pg from 'pg'
import { v4 } from 'uuid'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { heddleEnds, makeProject } from '../support/cli.ts'
import { createDatabase, type TestDatabase } from '../support/databases.ts'
import { startServer, type TestServer } from '../support/stacks.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 })

const project = makeProject({
  'graph.mjs': `
import { AIMessage } from '@langchain/core/messages'
import { Annotation, interrupt, MessagesAnnotation, Send, StateGraph } from '@langchain/langgraph'

const State = Annotation.Root({
  ...MessagesAnnotation.spec,
  seen: Annotation({ reducer: (before, added) => [...before, ...added], default: () => [] }),
  notes: Annotation(),
  ask: Annotation(),
})
const inner = new StateGraph(State)
  .addNode('approve', ({ ask }) => ({ seen: ['inner ' + interrupt({ approve: ask })] }))
  .addEdge('__start__', 'approve').addEdge('approve', '__end__')
export const builder = new StateGraph(State)
  .addNode('answer', ({ messages, seen }) => ({
    messages: [new AIMessage({ id: 'a' + messages.length, content: 'you said ' + messages.at(-1).content })],
    notes: new Map([['turn', seen.length], ['set', new Set([1])]]),
  }))
  .addNode('fan', () => ({}))
  .addNode('one', ({ word }) => ({ seen: [word] }))
  .addNode('review', inner.compile())
  .addNode('end', () => ({ seen: ['end'] }))
  .addEdge('__start__', 'answer').addEdge('answer', 'fan')
  .addConditionalEdges('fan', () => [new Send('one', { word: 'x' }), new Send('one', { word: 'y' })])
  .addConditionalEdges('one', ({ ask }) => (ask ? 'review' : 'end'))
  .addEdge('review', 'end').addEdge('end', '__end__')
export const graph = builder.compile()
`,
  'langgraph.json': JSON.stringify({ graphs: { chat: './graph.mjs:graph' } }),
  'two.json': JSON.stringify({ graphs: { chat: './graph.mjs:graph', other: './graph.mjs:graph' } }),
})

type Graph = CompiledStateGraph<unknown, unknown, string>
let stock: TestDatabase
let target: TestDatabase
let saver: Saver
let graph: Graph
const servers: TestServer[] = []

const said = (content: string, n: number) => ({ messages: [{ role: 'user', content, id: `u${n}` }] })
const at = (thread_id: string, checkpoint_id?: string) => ({
  configurable: { thread_id, ...(checkpoint_id && { checkpoint_id }) },
})
const command = (...args: string[]) =>
  heddleEnds(['import-checkpoints', '--from', stock.uri, '--config', project.config, ...args], {
    env: { DATABASE_URI: target.uri },
  })
const serve = async () => {
  const server = await startServer({
    graphs: { chat: `${join(project.dir, 'graph.mjs')}:graph` },
    database: { uri: target.uri },
    executor: 'child',
  })
  servers.push(server)
  return server
}

/** A state as the API prints it, without what belongs to one place only. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
function printed(values: unknown): unknown {
  const { messages, notes, ...rest } = values as { messages: { id: string; content: string }[]; notes: unknown }
  return { ...rest, messages: messages?.map(({ id, content }) => [id, content]) ?? null, notes: notes === undefined }
}
const shownThere = ({ values, next, config }: StateSnapshot) => ({
  values: plain(printed(values)),
  next: [...next],
  id: config.configurable?.checkpoint_id,
})
async function historyThere(threadId: string) {
  const found = []
  for await (const snapshot of graph.getStateHistory(at(threadId))) found.push(shownThere(snapshot))
  return found
}
const historyHere = async ({ client }: TestServer, threadId: string) =>
  (await client.threads.getHistory(threadId, { limit: 100 })).map(({ values, next, checkpoint }) => ({
    values: plain(printed(values)),
    next,
    id: checkpoint.checkpoint_id,
  }))

const ids = { long: v4(), asking: 'customer 7/α', forked: v4(), later: v4() }
beforeAll(async () => {
  stock = await createDatabase({ migrated: false })
  target = await createDatabase({ migrated: false })
  const { builder } = (await import(pathToFileURL(join(project.dir, 'graph.mjs')).href)) as {
    builder: { compile(options: { checkpointer: Saver }): Graph }
  }
  saver = PostgresSaver.fromConnString(stock.uri)
  await saver.setup()
  graph = builder.compile({ checkpointer: saver })
  for (let turn = 0; turn < 12; turn++) await graph.invoke(said(`turn ${turn}`, turn), at(ids.long))
  await graph.invoke({ ...said('may I?', 0), ask: 'payment' }, at(ids.asking))
  await graph.invoke(said('first', 0), at(ids.forked))
  const history = await historyThere(ids.forked)
  await graph.updateState(at(ids.forked, history[2]?.id), { seen: ['another way'] }, 'answer')
  await graph.invoke(null, at(ids.forked))
  await graph.invoke(said('later', 0), at(ids.later))
})
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()))
  await saver.end()
  await stock.drop()
  await target.drop()
  project.remove()
})

test('a dry run does everything and keeps nothing', async () => {
  const { code, stdout, stderr } = await command('--dry-run')
  expect(stderr).toBe('')
  expect(stdout).toMatch(
    /^Would import 4 of 4 threads: \d+ checkpoints, \d+ bytes of values. Unchanged: 0. Left out: 0.$/m,
  )
  expect(code).toBe(0)
  const server = await serve()
  expect(await server.client.threads.search()).toEqual([])
  await server.close()
})

test('threads come in as they were, and go on', async () => {
  const { code, stdout } = await command()
  expect(stdout).toMatch(/^Imported 4 of 4 threads: \d+ checkpoints, \d+ bytes of values. Unchanged: 0. Left out: 0.$/m)
  expect(code).toBe(0)
  const server = await serve()
  const { client } = server
  const [asking] = await client.threads.search({ metadata: { imported_thread_id: ids.asking } })
  expect(asking?.status).toBe('interrupted')
  const here: Record<string, string> = { ...ids, asking: asking?.thread_id as string }
  for (const [name, there] of Object.entries(ids)) {
    const threadId = here[name] as string
    const [mine, theirs] = [await historyHere(server, threadId), await historyThere(there)]
    expect(theirs.length, name).toBeGreaterThan(4)
    expect(mine, name).toEqual(theirs)
    const thread = await client.threads.get(threadId)
    expect(printed(thread.values), name).toEqual(mine[0]?.values)
    expect(thread.metadata).toMatchObject({ graph_id: 'chat', imported_thread_id: there })
    const [first, last] = [theirs.at(-1)?.id, theirs[0]?.id]
    const created = async (id: string | undefined) => (await graph.getState(at(there, id))).createdAt
    expect([new Date(thread.created_at), new Date(thread.state_updated_at as string)]).toEqual([
      new Date((await created(first)) as string),
      new Date((await created(last)) as string),
    ])
  }
  // The subgraph that asks is there too.
  const state = await client.threads.getState(here.asking as string, undefined, { subgraphs: true })
  expect(state.tasks[0]?.state?.next).toEqual(['approve'])
  expect(Object.values(asking?.interrupts ?? {})[0]).toMatchObject([{ value: { approve: 'payment' } }])

  // A list that grew takes the place of what was said, not of its square.
  const storage = await (await server.request('GET', `/threads/${here.long}/storage`)).json()
  const source = new pg.Client({ connectionString: stock.uri })
  await source.connect()
  const sizes = await source.query(
    `select sum(octet_length(blob))::int as bytes from checkpoint_blobs where channel = 'messages' and thread_id = $1`,
    [ids.long],
  )
  await source.end()
  expect(storage.channel_values.by_channel.messages.bytes).toBeLessThan(sizes.rows[0].bytes / 3)

  const next = { ...said('and now', 99), ask: null }
  for (const name of ['long', 'forked'] as const) {
    const mine = await client.runs.wait(here[name] as string, 'chat', { input: next })
    expect(printed(mine)).toEqual(plain(printed(await graph.invoke(next, at(ids[name])))))
  }
  const answer = await client.runs.wait(here.asking as string, 'chat', { command: { resume: 'granted' } })
  const theirs = await graph.invoke(new Command({ resume: 'granted' }), at(ids.asking))
  expect(printed(answer)).toEqual(plain(printed(theirs)))
  expect((answer as { seen: string[] }).seen).toEqual(['x', 'y', 'x', 'y', 'inner granted', 'end'])
  await server.close()
})

test('once more it brings what is new, and leaves alone what has gone on here', async () => {
  await graph.invoke(said('still there', 5), at(ids.later))
  const { code, stdout } = await command()
  expect(stdout).toMatch(/^Imported 1 of 4 threads: 6 checkpoints, \d+ bytes of values. Unchanged: 0. Left out: 3.$/m)
  expect(stdout).toContain(`Left out thread ${ids.long}: it has gone on here since it was imported, and there too`)
  expect(code).toBe(1)
  const server = await serve()
  expect(await historyHere(server, ids.later)).toEqual(await historyThere(ids.later))
  await server.close()
  const again = await command()
  expect(again.stdout).toMatch(
    /^Imported 0 of 4 threads: 0 checkpoints, 0 bytes of values. Unchanged: 1. Left out: 3.$/m,
  )
})

test('whose threads they are must be known, and what is asked for must be there', async () => {
  const empty = await createDatabase({ migrated: false })
  const run = (...args: string[]) =>
    heddleEnds(['import-checkpoints', ...args], { env: { DATABASE_URI: empty.uri }, cwd: project.dir })
  const two = ['--from', stock.uri, '--config', join(project.dir, 'two.json')]
  const unnamed = await run(...two)
  expect([unnamed.code, unnamed.stdout]).toEqual([
    1,
    expect.stringContaining(`Left out thread ${ids.long}: nobody says which graph it is of: give --assistant`),
  ])
  const named = await run(...two, '--assistant', 'other')
  expect([named.code, named.stdout]).toEqual([0, expect.stringContaining('Imported 4 of 4 threads')])
  const nobody = await run(...two, '--assistant', v4())
  expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining('--assistant: there is no assistant')])
  const schema = await run(...two, '--schema', 'elsewhere')
  expect([schema.code, schema.stderr]).toEqual([1, expect.stringContaining('in the schema "elsewhere"')])
  const address = await run('--from', 'mysql://x')
  expect([address.code, address.stderr]).toEqual([1, expect.stringContaining('--from must be an address')])
  await empty.drop()
})
