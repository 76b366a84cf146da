// What the README's first screen promises, as a newcomer pastes it: `npm start`'s script, the curl and the SDK snippet. Only
// the port is another one, so that several test runs do not meet.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../scripts/servers.mjs'
import { until } from '../support/until.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'heddle-readme-'))
const run = promisify(execFile)
const readme = readFileSync(join(root, 'README.md'), 'utf8')
let url = ''
let output = ''
let server: ReturnType<typeof start>

function start(port: number) {
  const args = ['scripts/start.mjs', '--port', `${port}`, '--data-dir', join(folder, 'data')]
  const child = spawn(process.execPath, args, { cwd: root, env: { PATH: process.env.PATH, HOME: process.env.HOME } })
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
  return child
}

/** The first block of the README in a language that holds a text, pointed at this test's server. */
function snippet(language: string, holding: string): string {
  const blocks = [...readme.matchAll(/^```(\w+)\n(.*?)^```/gms)]
  const found = blocks.find(([, name, text]) => name === language && text?.includes(holding))
  if (!found?.[2]) throw new Error(`the README has no ${language} block with ${holding}`)
  expect(found[2]).toContain('http://127.0.0.1:8123')
  return found[2].replaceAll('http://127.0.0.1:8123', url)
}

beforeAll(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  server = start(port)
  await until(
    'the server answers',
    async () => {
      if (server.exitCode !== null) throw new Error(`npm start ended:\n${output}`)
      return fetch(`${url}/ok`).then(
        async (response) => response.status === 200 && JSON.stringify(await response.json()),
        () => false as const,
      )
    },
    50_000,
  )
})
afterAll(async () => {
  if (server.exitCode === null) server.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

test('the start says where it listens and which graphs it serves', async () => {
  await until('the first screen is complete', () => output.includes(' graphs ') && output.includes(' bus '))
  expect(output).toContain(`on ${url}`)
  expect(output).toContain('agent, approval, team, memory')
})

test('the curl gives the answer of the agent', async () => {
  const { stdout } = await run('bash', ['-c', snippet('bash', 'curl')])
  const { messages } = JSON.parse(stdout) as { messages: { type: string; content: string }[] }
  expect(messages[0]).toMatchObject({ type: 'human', content: 'What is the weather in Oslo?' })
  expect(messages.at(-1)?.content).toMatch(/^Here is what I found: .* in Oslo\.$/)
})

test('the SDK snippet prints the answer as it comes', async () => {
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  writeFileSync(join(folder, 'snippet.mjs'), snippet('js', 'new Client'))
  const { stdout } = await run(process.execPath, ['snippet.mjs'], { cwd: folder })
  expect(stdout).toMatch(/Here is what I found: .* in Oslo\.$/)
})

test('a SIGTERM ends it in order', async () => {
  server.kill('SIGTERM')
  const [code] = await once(server, 'exit')
  expect(code).toBe(0)
})

test('what it makes is ignored by git', async () => {
  const made = ['node_modules/x', 'dist/index.js', 'examples/.heddle/data']
  const { stdout } = await run('git', ['check-ignore', '--no-index', ...made], { cwd: root })
  expect(stdout.trim().split('\n')).toEqual(made)
})
