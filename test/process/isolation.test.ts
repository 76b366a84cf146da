// What a graph can do to the process it runs in, and that nobody else pays for it: not the runs beside it, not requests.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from '@langchain/langgraph-sdk'
import { afterAll, afterEach, expect, test, vi } from 'vitest'
import { heddle, makeProject, type Running } from '../support/cli.ts'
import { until } from '../support/until.ts'

// Every node writes into the ledger when it begins. `act` does what the input says; `wait` waits for the gate.
const graph = `
import { appendFileSync, existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { Annotation, StateGraph } from '@langchain/langgraph'
const State = Annotation.Root({ kind: Annotation(), name: Annotation(), gate: Annotation(), done: Annotation() })
const begin = (node, { name }, config) =>
  appendFileSync(process.env.LEDGER, JSON.stringify({ name, node, attempt: config.metadata.run_attempt, at: Date.now(), pid: process.pid }) + '\\n')
const kinds = {
  exit: () => process.exit(7),
  abort: () => process.abort(),
  segv: () => process.kill(process.pid, 'SIGSEGV'),
  memory: async () => {
    for (const held = []; ; await delay(1)) held.push(Array.from({ length: 200_000 }, () => Math.random()))
  },
  loop: () => { for (;;); },
  microtasks: async () => { for (;;) await null },
  rejection: async () => {
    void Promise.reject(new TypeError('nobody waits'))
    await delay(60_000)
  },
  timer: async () => {
    setTimeout(() => { throw new RangeError('from a timer') }, 5)
    await delay(60_000)
  },
  none: () => {},
}
export const graph = new StateGraph(State)
  .addNode('prepare', (state, config) => (begin('prepare', state, config), { done: 'prepared' }))
  .addNode('act', async (state, config) => {
    begin('act', state, config)
    await delay(20)
    await kinds[state.kind]()
    return { done: 'acted' }
  })
  .addNode('wait', async (state, config) => {
    begin('wait', state, config)
    while (!existsSync(state.gate)) await delay(20)
    return { done: 'waited' }
  })
  .addEdge('__start__', 'prepare')
  .addConditionalEdges('prepare', ({ kind }) => (kind ? 'act' : 'wait'), ['act', 'wait'])
  .compile()
`
const project = makeProject({
  'graph.mjs': graph,
  ledger: '',
  'langgraph.json': JSON.stringify({ graphs: { any: './graph.mjs:graph' } }),
})
const running: Running[] = []
afterAll(async () => {
  await Promise.all(running.map((server) => server.stop('SIGKILL')))
  project.remove()
})

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 })

interface Line {
  name: string
  node: string
  attempt: number
  at: number
  pid: number
}
const ledger = (name: string, node?: string): Line[] =>
  readFileSync(join(project.dir, 'ledger'), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line)
    .filter((line) => line.name === name && (node === undefined || line.node === node))

let counter = 0
const probes: (() => Promise<number>)[] = []
// What a test that failed leaves must not stand beside the next one's runs.
afterEach(async () => {
  project.write(`gate-${counter}`, '')
  await Promise.all(probes.splice(0).map((stop) => stop()))
})

async function begin(env: Record<string, string> = {}, args: string[] = []) {
  const server = heddle(['start', '--config', project.config, '--port', '0', ...args], {
    env: {
      LEDGER: join(project.dir, 'ledger'),
      LOG_LEVEL: 'debug',
      LOG_JSON: 'true',
      HEDDLE_EXECUTOR_MEMORY_MB: '128',
      HEDDLE_EXECUTOR_STALL_SECONDS: '2',
      HEDDLE_CANCEL_GRACE_SECONDS: '1',
      ...env,
    },
  })
  running.push(server)
  const [, url = ''] = await server.shown(/"url":"([^"]+)"/)
  const apiUrl = url.replace('0.0.0.0', '127.0.0.1')
  const client = new Client({ apiUrl, callerOptions: { maxRetries: 0 } })
  const start = async (input: Record<string, unknown>) => {
    const { thread_id } = await client.threads.create()
    const { run_id } = await client.runs.create(thread_id, 'any', { input })
    return { thread_id, run_id, run: () => client.runs.get(thread_id, run_id) }
  }
  /** A run that waits for the gate, beside whatever is to come. */
  const sibling = async (name: string, gate: string) => {
    const run = await start({ name, gate })
    await until(`${name} waits`, () => ledger(name, 'wait').length > 0)
    return { name, ...run }
  }
  /** What a server must do meanwhile: gives how many requests it answered, and how long the slowest took. */
  const probe = () => {
    let stopped = false
    const took: number[] = []
    const looking = (async () => {
      for (; !stopped; await new Promise((resolve) => setTimeout(resolve, 50))) {
        for (const [path, init] of [['/ok'], ['/threads/search', { method: 'POST', body: '{}' }]] as const) {
          const asked = performance.now()
          const headers = { 'content-type': 'application/json' }
          const response = await fetch(apiUrl + path, { ...init, headers })
          expect(response.status).toBe(200)
          await response.text()
          took.push(performance.now() - asked)
        }
      }
    })()
    looking.catch(() => {})
    const stop = async () => {
      stopped = true
      await looking
      return Math.max(...took)
    }
    probes.push(stop)
    return stop
  }
  const seen = (kind: string): Record<string, unknown>[] =>
    server
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{') && line.includes(`"kind":"${kind}"`))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  return { server, client, start, sibling, probe, seen }
}

const shared = begin({}, ['--data-dir', join(project.dir, 'data'), '--executors', '1'])

test.each([
  // What is known of the dying process: its culprit by name, or nothing, so that all in it are suspects.
  { kind: 'exit', attempts: [1, 2, 3], cause: 'called process.exit(7)' },
  { kind: 'loop', attempts: [1, 2, 3], cause: /blocked its event loop for \d s in .*loop.*\(graph\.mjs\)/ },
  { kind: 'microtasks', attempts: [1, 2, 3], cause: /blocked its event loop for \d s/ },
  { kind: 'abort', attempts: [1, 1, 2, 3], cause: 'exited with signal SIGABRT' },
  { kind: 'segv', attempts: [1, 1, 2, 3], cause: 'exited with signal SIGSEGV' },
  { kind: 'memory', attempts: [1, 1, 2, 3], cause: 'ran out of memory (HEDDLE_EXECUTOR_MEMORY_MB is 128)' },
])(
  'a run that takes its process down ($kind) is charged alone and ends with the cause; those beside it go on',
  async ({ kind, attempts, cause }) => {
    const { client, start, sibling, probe } = await shared
    const gate = join(project.dir, `gate-${++counter}`)
    const siblings = [await sibling(`${kind}-one`, gate), await sibling(`${kind}-two`, gate)]
    const answered = probe()
    const culprit = await start({ name: kind, kind })
    const result = (await client.runs.join(culprit.thread_id, culprit.run_id)) as { __error__?: { message: string } }
    expect(await culprit.run()).toMatchObject({ status: 'error' })
    expect(result.__error__).toEqual({ error: 'RunCrashed', message: expect.stringMatching('The run crashed 3 times') })
    expect(result.__error__?.message).toMatch(cause)
    expect(ledger(kind, 'act').map(({ attempt }) => attempt)).toEqual(attempts)
    expect(ledger(kind, 'prepare').map(({ attempt }) => attempt)).toEqual([1])

    for (const { name } of siblings) await until(`${name} goes on`, () => ledger(name, 'wait').length === 2)
    project.write(`gate-${counter}`, '')
    for (const { name, thread_id, run_id } of siblings) {
      expect(await client.runs.join(thread_id, run_id)).toMatchObject({ done: 'waited' })
      expect(ledger(name).map(({ node, attempt }) => `${node} ${attempt}`)).toEqual(['prepare 1', 'wait 1', 'wait 1'])
    }
    const [first, second] = ledger(`${kind}-one`, 'wait')
    const died = ledger(kind, 'act')[0]
    if (kind === 'exit' || kind === 'segv')
      console.log(`${kind}: a run beside it went on after ${(second?.at ?? 0) - (died?.at ?? 0)} ms`)
    expect(second?.pid).not.toBe(first?.pid)
    expect(await answered()).toBeLessThan(5_000)
  },
)

test.each([
  { kind: 'rejection', cause: 'left a rejected promise unhandled: TypeError: nobody waits' },
  { kind: 'timer', cause: 'threw outside of its graph: RangeError: from a timer' },
])(
  'a failure outside of the graph ($kind) ends the run that began it, and its process goes on with the others',
  async ({ kind, cause }) => {
    const { client, start, sibling, probe } = await shared
    const gate = join(project.dir, `gate-${++counter}`)
    const beside = await sibling(`${kind}-beside`, gate)
    const answered = probe()
    const culprit = await start({ name: kind, kind })
    const result = await client.runs.join(culprit.thread_id, culprit.run_id)
    expect(result).toEqual({
      __error__: {
        error: 'RunCrashed',
        message: `The run crashed 3 times and is not tried again. The last time it ${cause}.`,
      },
    })
    expect(await culprit.run()).toMatchObject({ status: 'error' })
    expect(ledger(kind, 'act').map(({ attempt }) => attempt)).toEqual([1, 2, 3])
    project.write(`gate-${counter}`, '')
    expect(await client.runs.join(beside.thread_id, beside.run_id)).toMatchObject({ done: 'waited' })
    expect(ledger(beside.name).map(({ node, attempt }) => `${node} ${attempt}`)).toEqual(['prepare 1', 'wait 1'])
    expect(ledger(kind, 'act')[0]?.pid).toBe(ledger(beside.name)[0]?.pid)
    expect(await answered()).toBeLessThan(5_000)
  },
)

test('a run that blocks and is cancelled ends as cancelled after the grace, and those beside it go on', async () => {
  const { client, start, sibling } = await shared
  const gate = join(project.dir, `gate-${++counter}`)
  const beside = await sibling('cancel-beside', gate)
  const culprit = await start({ name: 'cancel', kind: 'loop' })
  await until('it loops', () => ledger('cancel', 'act').length === 1)
  const asked = performance.now()
  await client.runs.cancel(culprit.thread_id, culprit.run_id, true)
  expect(performance.now() - asked).toBeLessThan(1_000 + 5_000)
  expect(await culprit.run()).toMatchObject({ status: 'interrupted' })
  await until('the one beside goes on', () => ledger(beside.name, 'wait').length === 2)
  project.write(`gate-${counter}`, '')
  await client.runs.join(beside.thread_id, beside.run_id)
  expect(ledger(beside.name).map(({ node, attempt }) => `${node} ${attempt}`)).toEqual([
    'prepare 1',
    'wait 1',
    'wait 1',
  ])
  expect(ledger('cancel', 'act')).toHaveLength(1)
})

test('an event loop that is held up is said, with the graph, from one second on', async () => {
  const { seen } = await shared
  const delays = seen('event_loop_delayed')
  expect(delays.length).toBeGreaterThan(0)
  expect(delays[0]).toMatchObject({ msg: expect.stringMatching(/^executor \d+ \(graphs: any\) was held up$/) })
  expect(Number(delays[0]?.ms)).toBeGreaterThanOrEqual(1_000)
})

test('a run that loops for ever ends as timeout, soon after the grace', async () => {
  const { client, start } = await begin({ BG_JOB_TIMEOUT_SECS: '3', HEDDLE_EXECUTOR_STALL_SECONDS: '0' }, [
    '--data-dir',
    join(project.dir, 'data-timeout'),
  ])
  const began = performance.now()
  const culprit = await start({ name: 'timeout', kind: 'loop' })
  const result = await client.runs.join(culprit.thread_id, culprit.run_id)
  expect(result).toMatchObject({ __error__: { error: 'RunTimeout' } })
  expect(await culprit.run()).toMatchObject({ status: 'timeout' })
  expect(performance.now() - began).toBeLessThan(3_000 + 1_000 + 5_000)
  expect(await client.runs.wait(null, 'any', { input: { name: 'after', kind: 'none' } })).toMatchObject({
    done: 'acted',
  })
})

test('a process that loops does not outlive its server', async () => {
  const { server, start } = await begin({ HEDDLE_EXECUTOR_STALL_SECONDS: '0' }, [
    '--data-dir',
    join(project.dir, 'data-orphan'),
  ])
  await start({ name: 'orphan', kind: 'loop' })
  const line = await until('it loops', () => ledger('orphan', 'act')[0])
  await server.stop('SIGKILL')
  await until('the executor is gone', () => !existsSync(`/proc/${line.pid}`) && !isAlive(line.pid))
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
