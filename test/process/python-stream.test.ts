// The stock Python client's thread streams, over both transports, against a process as in production. Its connections are cut
// in the middle of a story.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Cluster, startCluster } from '../faults/support/cluster.ts'
import { startProxy, type TcpProxy } from '../support/proxy.ts'
import { pythonWith } from '../support/python/venv.ts'

// Real processes, on machines that may be busy; the client may have to be installed.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 })

const file = (name: string) => fileURLToPath(new URL(`../support/${name}`, import.meta.url))
const story = Array.from({ length: 24 }, (_, i) => `word${i} `).join('')
const folder = mkdtempSync(join(tmpdir(), 'heddle-python-stream-'))
let cluster: Cluster
let network: TcpProxy
beforeAll(async () => {
  cluster = await startCluster({ members: { works: 'all' }, config: file('clients/langgraph.json') })
  network = await startProxy(cluster.member('works').url, 0)
})
afterAll(async () => {
  await network?.close()
  await cluster?.close()
  rmSync(folder, { recursive: true, force: true })
})

test.for(['sse', 'websocket'])('the Python client follows threads over %s', async (transport, { skip }) => {
  const environment = await pythonWith('langgraph-sdk==0.4.14')
  if ('reason' in environment) {
    console.warn(`The Python client's streams are not tested: ${environment.reason}.`)
    return skip(environment.reason)
  }
  const gate = join(folder, transport)
  const program = spawn(environment.python, [file('python/stream.py'), new URL(network.uri).origin, transport, gate])
  let complaint = ''
  program.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  const ended = new Promise<number | null>((resolve) => program.on('close', resolve))
  const shown: unknown[] = []
  for await (const line of createInterface({ input: program.stdout })) {
    shown.push(JSON.parse(line))
    if (line !== '{"half": true}') continue
    network.cut()
    writeFileSync(gate, '')
    program.stdin.end('\n')
  }
  expect(await ended, complaint).toBe(0)
  const weather = ['weather Oslo', '', 'sunny in Oslo', 'It is sunny in Oslo.']
  const together = [1, 2, 3, 4].map((count) => weather.slice(0, count))
  expect(shown).toEqual([
    {
      messages: [
        { text: '', calls: [['weather', { city: 'Oslo' }]] },
        { text: 'It is sunny in Oslo.', calls: [] },
      ],
      calls: [['weather', 'call_weather', expect.anything(), 'sunny in Oslo']],
      values: together,
      progress: [{ name: 'progress', payload: { looked: 'Oslo' } }],
      output: weather,
    },
    { graph: 'writer', status: 'completed', told: [story] },
    {
      asked: [
        [{ question: 'Ada?' }, []],
        [{ question: 'Bob?' }, []],
      ],
      steps: ['running', 'interrupted', 'running', 'completed'],
      output: ['may we?', 'Ada: yes', 'Bob: no', 'closed'],
      left: [],
    },
    { methods: ['lifecycle', 'values', 'values', 'values', 'values', 'lifecycle'] },
    { half: true },
    { told: story, twice: 0, output: [`story ${gate}`, story] },
    { sync: ['', 'It is sunny in Oslo.'], output: weather },
  ])
})
