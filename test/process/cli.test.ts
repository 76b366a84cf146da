import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { version } from '../../src/config.ts'
import { heddleEnds, holdPort } from '../support/cli.ts'

// Real processes, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const dir = mkdtempSync(join(tmpdir(), 'heddle-cli-'))
afterAll(() => rmSync(dir, { recursive: true }))

const project = (name: string, content: unknown, graph = 'export const graph = 1\n'): string => {
  mkdirSync(join(dir, name))
  writeFileSync(join(dir, name, 'graph.mjs'), graph)
  const file = join(dir, name, 'langgraph.json')
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  return file
}

test.each([[[]], [['dev']], [['start']], [['migrate']]])('--help and --version work after %j', async (command) => {
  const help = await heddleEnds([...command, '--help'])
  expect(help).toMatchObject({ code: 0, stderr: '' })
  expect(help.stdout).toMatch(new RegExp(`^Usage: ${['heddle', ...command].join(' ')} `))
  expect(await heddleEnds([...command, '--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
})

test('no command at all shows the help and fails', async () => {
  const { code, stderr } = await heddleEnds([])
  expect(code).toBe(1)
  expect(stderr).toContain('Usage: heddle ')
})

test.each([
  [['dev', '--prot', '1'], "error: unknown option '--prot'\n(Did you mean --port?)\n"],
  [['serve'], "error: unknown command 'serve'\n"],
  [['dev', 'extra'], "error: too many arguments for 'dev'. Expected 0 arguments but got 1.\n"],
  [
    ['dev', '--port', '70000'],
    "error: option '-p, --port <port>' argument '70000' is invalid. It must be a whole number from 0 to 65535.\n",
  ],
  [
    ['start', '--n-jobs-per-worker', '0'],
    "error: option '--n-jobs-per-worker <n>' argument '0' is invalid. It must be a whole number from 1 to 10000.\n",
  ],
  [
    ['start', '--role', 'boss'],
    "error: option '--role <role>' argument 'boss' is invalid. Allowed choices are all, api, worker.\n",
  ],
  [
    ['start', '--executors', '0'],
    "error: option '--executors <n>' argument '0' is invalid. It must be a whole number from 1 to 1024.\n",
  ],
])('%j is refused', async (args, message) => {
  const { code, stdout, stderr } = await heddleEnds(args)
  expect({ code, stdout, stderr }).toEqual({ code: 1, stdout: '', stderr: message })
})

test('a config that is not there is refused by its path', async () => {
  const file = join(dir, 'none.json')
  expect(await heddleEnds(['dev', '--config', file])).toEqual({
    code: 1,
    stdout: '',
    stderr: `heddle: ${file}: there is no such file; give the path of a langgraph.json with --config.\n`,
  })
})

test('a config that is not JSON is refused with its line and column', async () => {
  const file = project('syntax', '{\n  "graphs": {,}\n}')
  const { code, stderr } = await heddleEnds(['start', '--config', file])
  expect(code).toBe(1)
  expect(stderr).toMatch(/^heddle: .*langgraph\.json:2:14 is not valid JSON: .*\.\n$/)
})

test('a key that is not supported is refused by name', async () => {
  const file = project('auth', { graphs: { agent: './graph.mjs:graph' }, auth: { path: './auth.mjs:auth' } })
  expect(await heddleEnds(['dev', '--config', file])).toEqual({
    code: 1,
    stdout: '',
    stderr: `heddle: ${file}: auth.path is not supported yet: remove it.\n`,
  })
})

test('a variable that is not supported is refused by name, be it in the env of the project', async () => {
  const file = project('env', { graphs: { agent: './graph.mjs:graph' }, env: { MOUNT_PREFIX: '/api' } })
  expect(await heddleEnds(['dev', '--config', file])).toMatchObject({
    code: 1,
    stderr: 'heddle: The environment variable MOUNT_PREFIX is not supported yet: unset it.\n',
  })
})

test('start without a database is refused, and says how to give one', async () => {
  const file = project('start', { graphs: { agent: './graph.mjs:graph' } })
  expect(await heddleEnds(['start', '--config', file])).toEqual({
    code: 1,
    stdout: '',
    stderr:
      'heddle: heddle start needs a database: set DATABASE_URI (or POSTGRES_URI, POSTGRES_URI_CUSTOM), or give --data-dir for an embedded one.\n',
  })
})

test('start with an embedded database has no other role than all', async () => {
  const file = project('role', { graphs: { agent: './graph.mjs:graph' } })
  const { code, stderr } = await heddleEnds([
    'start',
    '--config',
    file,
    '--data-dir',
    join(dir, 'data'),
    '--role',
    'api',
  ])
  expect(code).toBe(1)
  expect(stderr).toBe(
    'heddle: --role api needs DATABASE_URI: the embedded database of --data-dir belongs to one process.\n',
  )
})

test('a busy port that was asked for is refused, by flag and by PORT', async () => {
  const file = project('port', { graphs: { agent: './graph.mjs:graph' } })
  const held = await holdPort()
  const stderr = `heddle: Port ${held.port} on 127.0.0.1 is in use: stop what listens there, or choose another with --port.\n`
  expect(await heddleEnds(['dev', '--config', file, '--port', `${held.port}`])).toEqual({ code: 1, stdout: '', stderr })
  expect(await heddleEnds(['dev', '--config', file], { env: { PORT: `${held.port}` } })).toEqual({
    code: 1,
    stdout: '',
    stderr,
  })
  await held.release()
})

test('an unreachable database is said in one sentence, without its password', async () => {
  const held = await holdPort()
  await held.release()
  const env = { DATABASE_URI: `postgres://heddle:hunter2@127.0.0.1:${held.port}/heddle` }
  const { code, stderr } = await heddleEnds(['migrate'], { env, cwd: dir })
  expect(code).toBe(1)
  expect(stderr).toBe(`heddle: The database cannot be reached: connect ECONNREFUSED 127.0.0.1:${held.port}.\n`)
})

test('migrate brings an embedded database up to date once', async () => {
  const args = ['migrate', '--data-dir', join(dir, 'migrated')]
  const first = await heddleEnds(args, { cwd: dir })
  expect(first).toMatchObject({ code: 0, stderr: '' })
  expect(first.stdout).toMatch(/^Migrated the database \(embedded, .+\): 0001_begin.*\.\n$/)
  expect((await heddleEnds(args, { cwd: dir })).stdout).toMatch(
    /^Nothing to do: the database \(embedded, .+\) is up to date\.\n$/,
  )
})
