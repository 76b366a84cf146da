import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { heddle, makeProject, type Running } from '../support/cli.ts'
import { pythonWith } from '../support/python/venv.ts'

const support = (name: string) => fileURLToPath(new URL(`../support/python/${name}`, import.meta.url))
const project = makeProject({
  'graphs.mjs': readFileSync(support('graphs.mjs'), 'utf8'),
  'langgraph.json': JSON.stringify({
    graphs: { parrot: './graphs.mjs:parrot', notes: './graphs.mjs:notes', endless: './graphs.mjs:endless' },
  }),
})
let server: Running | undefined
afterAll(async () => {
  await server?.stop()
  project.remove()
})

interface Report {
  passed: string[]
  failed: Record<string, string>
  uncalled: string[]
}

test('every method of the Python client works, sync and async', { timeout: 240_000 }, async ({ skip }) => {
  const environment = await pythonWith('langgraph-sdk==0.4.14')
  if ('reason' in environment) {
    console.warn(`The Python client is not tested: ${environment.reason}.`)
    return skip(environment.reason)
  }
  server = heddle(['dev', '--config', project.config, '--port', '0', '--no-reload'])
  const [, url = ''] = await server.shown(/^Heddle \S+ on (\S+)$/m)
  const { stdout } = await promisify(execFile)(environment.python, [support('smoke.py'), url], { maxBuffer: 2 ** 24 })
  const { passed, failed, uncalled } = JSON.parse(stdout) as Report
  expect(failed).toEqual({})
  expect(uncalled, 'methods that nothing called').toEqual([])
  expect(passed.length).toBeGreaterThan(40)
})
