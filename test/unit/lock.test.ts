import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ensureBuilt } from '../../scripts/setup.mjs'
import { lockDirectory } from '../../src/db/lock.ts'
import { ConfigError } from '../../src/errors.ts'

const root = mkdtempSync(join(tmpdir(), 'heddle-lock-'))
const children: ChildProcess[] = []
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(root, { recursive: true, force: true })
})
let dirs = 0
/** A directory with this text as its lock. */
const locked = (text: string): string => {
  const dir = join(root, String(dirs++))
  mkdirSync(dir)
  writeFileSync(join(dir, 'lock'), text)
  return dir
}
const refusal = (dir: string): string => {
  try {
    lockDirectory(dir)()
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message
  }
  throw new Error('the lock was given')
}
const startOf = (pid: number) =>
  existsSync('/proc') ? readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19] : null
/** The pid of a process that has just ended. */
const deadPid = () => spawnSync('true').pid
const held = (dir: string) => JSON.parse(readFileSync(join(dir, 'lock'), 'utf8')).pid

test('a directory is made and locked, and can be locked again once it was given back', () => {
  const dir = join(root, 'a', 'b')
  const unlock = lockDirectory(dir)
  expect(held(dir)).toBe(process.pid)
  expect(refusal(dir)).toBe(
    `The data directory ${dir} is in use by process ${process.pid}: stop that process, or pass another --data-dir.`,
  )
  unlock()
  expect(readdirSync(dir)).toEqual([])
  lockDirectory(dir)()
})

test('a directory that another process holds is refused, with its pid', () => {
  const child = spawn('sleep', ['60'])
  children.push(child)
  const dir = locked(JSON.stringify({ pid: child.pid, started: startOf(child.pid as number) }))
  expect(refusal(dir)).toContain(`in use by process ${child.pid}`)
  expect(refusal(locked(JSON.stringify({ pid: child.pid, started: null })))).toContain(`process ${child.pid}`)
})

test.each([
  ['of a process that is gone', () => JSON.stringify({ pid: deadPid(), started: '1' })],
  [
    'of a process that is gone, where the kernel tells no start times',
    () => JSON.stringify({ pid: deadPid(), started: null }),
  ],
  ['of a process whose pid was given to another', () => JSON.stringify({ pid: process.pid, started: '1' })],
  ['that holds nothing', () => ''],
  ['that is no JSON', () => '{"pid":'],
])('a lock %s is taken over', (_, text) => {
  const dir = locked(text())
  const unlock = lockDirectory(dir)
  expect(held(dir)).toBe(process.pid)
  unlock()
  expect(readdirSync(dir)).toEqual([])
})

test("a process that died while it took a stale lock over is in nobody's way", () => {
  const stale = JSON.stringify({ pid: deadPid(), started: '1' })
  const dir = locked(stale)
  writeFileSync(join(dir, 'lock.turn'), stale)
  const unlock = lockDirectory(dir)
  expect(existsSync(join(dir, 'lock.turn'))).toBe(false)
  unlock()
})

beforeAll(() => ensureBuilt())

test('of many processes that find a stale lock at the same moment, one gets it', async () => {
  const stale = JSON.stringify({ pid: deadPid(), started: '1' })
  const rounds = Array.from({ length: 60 }, () => locked(stale))
  const program = fileURLToPath(new URL('../support/programs/lock-rounds.mjs', import.meta.url))
  const lock = fileURLToPath(new URL('../../dist/db/lock.js', import.meta.url))
  const start = String(Date.now() + 1_500)
  const results = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const child = spawn(process.execPath, [program, lock, start, '10', ...rounds], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      children.push(child)
      const [text] = (await child.stdout.take(1).toArray()) as [Buffer]
      return JSON.parse(String(text)) as number[]
    }),
  )
  expect(results.flat().sort((a, b) => a - b)).toEqual(rounds.map((_, round) => round))
})
