import { Client } from '@langchain/langgraph-sdk'
import { afterAll, expect, test, vi } from 'vitest'
import { heddle, makeProject, type Running } from '../support/cli.ts'
import { type LangSmith, startLangSmith, type Trace } from '../support/langsmith.ts'
import { until } from '../support/until.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 })

const graph = `
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ word: Annotation(), said: Annotation() })
export const graph = new StateGraph(State)
  .addNode('say', ({ word }) => ({ said: word + '!' }))
  .addNode('fail', () => { throw new TypeError('no such word') })
  .addConditionalEdges('__start__', ({ word }) => (word === 'fail' ? 'fail' : 'say'))
  .addEdge('say', '__end__')
  .compile()
`
const project = makeProject({
  'graph.mjs': graph,
  'langgraph.json': JSON.stringify({ graphs: { words: './graph.mjs:graph' } }),
})
const open: (Running | LangSmith)[] = []
afterAll(async () => {
  for (const each of open) await ('stop' in each ? each.stop('SIGKILL') : each.close())
  project.remove()
})

let servers = 0
async function begin(langsmith: LangSmith, env: Record<string, string> = { LANGSMITH_TRACING: 'true' }) {
  const server = heddle(
    ['dev', '--config', project.config, '--port', '0', '--no-reload', '--data-dir', `${project.dir}/data${servers++}`],
    {
      env: {
        LANGSMITH_ENDPOINT: langsmith.url,
        LANGSMITH_API_KEY: 'lsv2_secret',
        LANGSMITH_PROJECT: 'words-project',
        ...env,
      },
    },
  )
  open.push(langsmith, server)
  const [, apiUrl] = await server.shown(/^Heddle \S+ on (\S+)$/m)
  return { server, client: new Client({ apiUrl, apiKey: null, callerOptions: { maxRetries: 0 } }) }
}
const ended = (langsmith: LangSmith, id: string): Promise<Trace> =>
  until(`the trace of run ${id} has ended`, () => {
    const trace = langsmith.runs.get(id)
    return trace?.end_time ? trace : undefined
  })
const tracing = startLangSmith().then(async (langsmith) => ({ langsmith, ...(await begin(langsmith)) }))

test('a run is traced under its own id, with the ids of thread, assistant and graph, the attempt and the metadata', async () => {
  const { langsmith, client } = await tracing
  const { thread_id } = await client.threads.create({ metadata: { of_thread: 'yes' } })
  const { assistant_id } = await client.assistants.create({ graphId: 'words', metadata: { of_assistant: 'yes' } })
  const { run_id } = await client.runs.create(thread_id, assistant_id, {
    input: { word: 'hello' },
    metadata: { order: 17 },
    config: { tags: ['spoken'], configurable: { tone: 'warm' } },
  })
  await client.runs.join(thread_id, run_id)
  const trace = await ended(langsmith, run_id)
  expect(trace).toMatchObject({
    id: run_id,
    trace_id: run_id,
    run_type: 'chain',
    session_name: 'words-project',
    tags: ['spoken'],
    inputs: { word: 'hello' },
    outputs: { word: 'hello', said: 'hello!' },
  })
  expect(trace.parent_run_id ?? null).toBeNull()
  expect(trace.error ?? null).toBeNull()
  expect(trace.extra.metadata).toMatchObject({
    run_id,
    thread_id,
    assistant_id,
    graph_id: 'words',
    run_attempt: 1,
    order: 17,
    of_thread: 'yes',
    of_assistant: 'yes',
    tone: 'warm',
    langgraph_host: 'self-hosted',
  })
  const child = [...langsmith.runs.values()].find(({ name, trace_id }) => name === 'say' && trace_id === run_id)
  expect(child).toMatchObject({ parent_run_id: run_id, outputs: { said: 'hello!' }, session_name: 'words-project' })
  expect(child?.extra.metadata).toMatchObject({ thread_id, langgraph_node: 'say' })
  expect([...langsmith.keys]).toEqual(['lsv2_secret'])
  const flags = ((await (await fetch(`${new URL(await apiUrlOf())}info`)).json()) as { flags: unknown }).flags
  expect(flags).toMatchObject({ langsmith: true })
})

const apiUrlOf = async () => {
  const { server } = await tracing
  return (await server.shown(/^Heddle \S+ on (\S+)$/m))[1] as string
}

test('the trace of a run that failed carries the error', async () => {
  const { langsmith, client } = await tracing
  const { thread_id } = await client.threads.create()
  const { run_id } = await client.runs.create(thread_id, 'words', { input: { word: 'fail' } })
  await expect(client.runs.join(thread_id, run_id)).resolves.toMatchObject({ __error__: { error: 'TypeError' } })
  expect((await ended(langsmith, run_id)).error).toContain('no such word')
})

test('langsmith_tracer sends a run, and all below it, to its project and example', async () => {
  const { langsmith, client } = await tracing
  const { thread_id } = await client.threads.create()
  const example_id = '0198a2a4-1111-7000-8000-000000000001'
  const { run_id } = await client.runs.create(thread_id, 'words', {
    input: { word: 'tried' },
    _langsmithTracer: { projectName: 'an-experiment', exampleId: example_id },
  } as never)
  await client.runs.join(thread_id, run_id)
  const trace = await ended(langsmith, run_id)
  expect(trace).toMatchObject({ session_name: 'an-experiment', reference_example_id: example_id })
  expect(trace.extra.metadata).toMatchObject({ thread_id, run_attempt: 1 })
  const below = [...langsmith.runs.values()].filter(({ trace_id, id }) => trace_id === run_id && id !== run_id)
  expect(below.map(({ session_name }) => session_name)).toEqual(below.map(() => 'an-experiment'))
  expect(below.length).toBeGreaterThan(0)
})

test('feedback_keys gives one feedback event with a presigned url for each key, before the end', async () => {
  const { langsmith, client } = await tracing
  const events: { event: string; data: unknown }[] = []
  let runId = ''
  const payload = { input: { word: 'rated' }, feedbackKeys: ['thumbs', 'clarity'] }
  for await (const { event, data } of client.runs.stream(null, 'words', payload)) {
    events.push({ event, data })
    if (event === 'metadata') runId = (data as { run_id: string }).run_id
  }
  const url = (key: string) => `https://smith.test/feedback/${key}`
  expect(events.map(({ event }) => event)).toEqual(['metadata', 'values', 'values', 'feedback', 'end'])
  expect(events[3]?.data).toEqual({ thumbs: url('thumbs'), clarity: url('clarity') })
  const asked = langsmith.feedback.filter(({ run_id }) => run_id === runId)
  expect(asked.map(({ feedback_key }) => feedback_key).sort()).toEqual(['clarity', 'thumbs'])
})

test('the traces of the last runs are sent before a stopped server is gone', async () => {
  const langsmith = await startLangSmith({ batch: true })
  const { server, client } = await begin(langsmith)
  const ids = await Promise.all(
    Array.from({ length: 5 }, async (_, i) => {
      const { thread_id } = await client.threads.create()
      const run = await client.runs.create(thread_id, 'words', { input: { word: `last ${i}` } })
      await client.runs.join(thread_id, run.run_id)
      return run.run_id
    }),
  )
  expect((await server.stop()).code).toBe(0)
  expect(ids.map((id) => langsmith.runs.get(id)?.outputs)).toEqual(
    ids.map((_, i) => ({ word: `last ${i}`, said: `last ${i}!` })),
  )
})

test('a LangSmith that does not answer holds no run up', async () => {
  const { client, server } = await begin(await startLangSmith({ hanging: true }))
  const started = performance.now()
  expect(await client.runs.wait(null, 'words', { input: { word: 'quick' } })).toEqual({ word: 'quick', said: 'quick!' })
  expect(performance.now() - started).toBeLessThan(5_000)
  const stopping = performance.now()
  expect((await server.stop()).code).toBe(0)
  expect(performance.now() - stopping).toBeLessThan(8_000)
})

test('without tracing nothing is sent, whatever a run asks for', async () => {
  const langsmith = await startLangSmith()
  const { client, server } = await begin(langsmith, {})
  const names: string[] = []
  const asking = { langsmith_tracer: { project_name: 'an-experiment' }, feedbackKeys: ['thumbs'] }
  for await (const { event } of client.runs.stream(null, 'words', { input: { word: 'off' }, ...asking } as never)) {
    names.push(event)
  }
  expect(names).toEqual(['metadata', 'values', 'values', 'end'])
  await server.stop()
  expect(langsmith.requests).toEqual([])
})
