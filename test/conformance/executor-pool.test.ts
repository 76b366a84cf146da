// Several executors behind one: how runs are spread, what a death or a reload of one means for the others, and who is to
// blame for it.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import type { Outcome } from '../../src/executor/protocol.ts'
import { type Bench, PROJECT, startBench, valuesOf } from '../support/executors.ts'
import { until } from '../support/until.ts'

let folder: string
let open: Bench | undefined
beforeAll(() => {
  folder = mkdtempSync(join(PROJECT, 'scratch-'))
})
afterEach(() => open?.executor.close())
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const file = () => join(folder, 'graph.mjs')
// Says in which process it is, waits for a gate, and does what it is told.
const write = (word: string) =>
  writeFileSync(
    file(),
    `import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { Annotation, START, StateGraph } from '@langchain/langgraph'
const S = Annotation.Root({ here: Annotation(), gate: Annotation(), act: Annotation(), pid: Annotation(), said: Annotation() })
const later = async (ms) => { await delay(ms); throw new Error('late by ' + ms) }
export const graph = new StateGraph(S).addNode('n', async ({ here, gate, act }, { signal }) => {
  if (here) writeFileSync(here, String(process.pid))
  if (act === 'reject later') void later(50)
  if (act === 'reject when stopped') signal.addEventListener('abort', () => void later(0))
  while (gate && !existsSync(gate)) await delay(10)
  return { pid: process.pid, said: '${word}' }
}).addEdge(START, 'n').compile()
export const made = (config, { accessContext }) => {
  if (accessContext === 'assistants.read') process.exit(3)
  return graph
}
`,
  )

async function start(size: number): Promise<Bench> {
  write('old')
  const graphs = ['graph', 'made'].map((name) => ({ graph_id: name, path: file(), export: name }))
  open = await startBench('child', graphs, { size })
  await until('all have started', () => started().length === size)
  return open
}

const pids = (kind: 'executor_started' | 'executor_exited') =>
  (open?.observations ?? []).flatMap((seen) => (seen.kind === kind ? [seen.pid] : []))
const started = () => pids('executor_started')

/** A run that waits until it is let go; `pid` is where. */
async function hold(bench: Bench, more: { suspect?: boolean } = {}) {
  const here = join(folder, crypto.randomUUID())
  const gate = join(folder, crypto.randomUUID())
  const handle = bench.executor.run(bench.job('graph', { input: { here, gate } }, more), bench.sink())
  // For a moment it is there and empty. Seven processes may be starting at once.
  const written = () => existsSync(here) && (Number(readFileSync(here, 'utf8')) || undefined)
  const pid = await until('the node waits', written, 25_000)
  const go = async () => {
    writeFileSync(gate, '')
    return valuesOf(await handle.outcome)
  }
  return { pid, go, handle }
}

const quick = async (bench: Bench) => valuesOf((await bench.run('graph', { input: { act: '' } })).outcome)

it('gives a run to the one that has least to do', async () => {
  const bench = await start(3)
  const runs = [await hold(bench), await hold(bench), await hold(bench)]
  expect(new Set(runs.map(({ pid }) => pid))).toEqual(new Set(started()))
  await runs[1]?.go()
  expect(await quick(bench)).toMatchObject({ pid: runs[1]?.pid })
  for (const run of runs) expect(await run.go()).toMatchObject({ pid: run.pid })
})

it('goes on with the others while one that died is replaced', async () => {
  const bench = await start(2)
  const [one, two] = [await hold(bench), await hold(bench)]
  process.kill(one.pid, 'SIGKILL')
  const cause = 'exited with signal SIGKILL'
  expect(await one.handle.outcome).toEqual({ kind: 'crashed', cause, blame: 'culprit' })
  expect(await quick(bench)).toMatchObject({ pid: two.pid })
  await until('there are two again', () => started().length === 3)
  expect((await hold(bench)).pid).toBe(started()[2])
  expect(await two.go()).toMatchObject({ pid: two.pid })
})

it('never gives a run to one whose end is known', async () => {
  const bench = await start(1)
  const { pid } = await hold(bench)
  process.kill(pid, 'SIGKILL')
  const outcomes = new Set<string>()
  while (pids('executor_exited').length === 0) {
    outcomes.add(await Promise.race([bench.run('graph', { input: { act: '' } }).then(told), turn()]))
  }
  expect(await quick(bench)).toMatchObject({ pid: started()[1] })
  expect([...outcomes].filter((blame) => blame === 'culprit')).toEqual([])
})
const told = ({ outcome }: { outcome: Outcome }) => (outcome.kind === 'crashed' ? outcome.blame : outcome.kind)
const turn = () => new Promise<string>((resolve) => setTimeout(resolve, 10, 'waits'))

it('suspects everything that was in one that died of nobody knows what, and runs each suspect alone', async () => {
  const bench = await start(1)
  const [one, two] = [await hold(bench), await hold(bench)]
  expect(one.pid).toBe(two.pid)
  process.kill(one.pid, 'SIGSEGV')
  for (const { handle } of [one, two])
    expect(await handle.outcome).toEqual({ kind: 'crashed', cause: 'exited with signal SIGSEGV', blame: 'suspect' })
  const suspects = await Promise.all([1, 2, 3, 4, 5, 6].map(() => hold(bench, { suspect: true })))
  const beside = await hold(bench)
  expect(new Set([beside.pid, ...suspects.map(({ pid }) => pid)]).size).toBe(7)
  process.kill(suspects[0]?.pid as number, 'SIGSEGV')
  expect(await suspects[0]?.handle.outcome).toMatchObject({ kind: 'crashed', blame: 'culprit' })
  for (const { pid, go } of [beside, ...suspects.slice(1)]) expect(await go()).toMatchObject({ pid })
})

it('blames no run for what a call did', async () => {
  const bench = await start(1)
  const { handle } = await hold(bench)
  await expect(bench.executor.call('graph.draw', { graph_id: 'made', xray: false })).rejects.toMatchObject({
    code: 'executor_unavailable',
    message: expect.stringContaining('called process.exit(3)'),
  })
  expect(await handle.outcome).toEqual({ kind: 'crashed', cause: 'called process.exit(3)', blame: 'bystander' })
})

it.each(['reject later', 'reject when stopped'])('ends nothing when what is over fails (%s)', async (act) => {
  const bench = await start(1)
  const here = join(folder, crypto.randomUUID())
  const gate = act === 'reject later' ? '' : join(folder, crypto.randomUUID())
  const run = bench.executor.run(bench.job('graph', { input: { here, gate, act } }), bench.sink())
  await until('the node runs', () => existsSync(here))
  if (gate !== '') run.abort('cancel')
  expect((await run.outcome).kind).toBe(gate === '' ? 'success' : 'aborted')
  await until('it is said', () =>
    bench.observations.some((seen) => seen.kind === 'executor_output' && seen.text.includes('late by')),
  )
  expect(await quick(bench)).toMatchObject({ pid: started()[0] })
})

it('exchanges all of them on reload, and loses no run', async () => {
  const bench = await start(3)
  const before = started()
  const runs = [await hold(bench), await hold(bench)]
  write('new')
  await bench.executor.reload()
  for (let i = 0; i < 5; i++) expect(await quick(bench)).toMatchObject({ said: 'new' })
  await until('there are three new ones', () => started().length === 6)
  const after = await Promise.all([hold(bench), hold(bench), hold(bench)])
  expect(new Set(after.map(({ pid }) => pid))).toEqual(new Set(started().slice(3)))
  for (const run of runs) expect(await run.go()).toMatchObject({ said: 'old', pid: run.pid })
  await until('the old ones are gone', () => before.every((pid) => pids('executor_exited').includes(pid)))
})

it('serves the newest code when one is restarted during a reload', async () => {
  const bench = await start(1)
  process.kill(started()[0] as number, 'SIGKILL')
  await until('it is gone', () => pids('executor_exited').length === 1)
  // The restart has begun, with the code as it is.
  write('new')
  await bench.executor.reload()
  expect(await quick(bench)).toMatchObject({ said: 'new' })
  await until('one of the two that came after is gone again', () => pids('executor_exited').length === 2)
  expect(await quick(bench)).toMatchObject({ said: 'new' })
  expect(started().length - pids('executor_exited').length).toBe(1)
})
