// Runs the built command line as a real process, with a clean environment, for tests of what a user sees.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const bin = fileURLToPath(new URL('../../bin/heddle.js', import.meta.url))

export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

export interface Running {
  process: ChildProcess
  /** Everything printed so far. */
  output(): string
  /** Resolves with the match when the output (both streams, from an offset) holds it; rejects if the process ends before. */
  shown(pattern: RegExp, from?: number): Promise<RegExpExecArray>
  /** Sends a signal and resolves when the process is gone. */
  stop(signal?: NodeJS.Signals): Promise<Ended>
  ended: Promise<Ended>
}

/** Starts `heddle <args>`. Only PATH, HOME and `env` are in its environment. */
export function heddle(args: readonly string[], options: { env?: Record<string, string>; cwd?: string } = {}): Running {
  const child = spawn(process.execPath, [bin, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...options.env },
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  let mixed = ''
  const waiting = new Set<() => void>()
  const take = (text: string) => {
    mixed += text
    for (const look of waiting) look()
  }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    take(text)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    take(text)
  })
  const ended = once(child, 'close').then(([code]): Ended => {
    for (const look of waiting) look()
    return { code, stdout, stderr }
  })
  return {
    process: child,
    output: () => mixed,
    ended,
    shown: (pattern, from = 0) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(mixed.slice(from))
          if (match) resolve(match)
          else if (child.exitCode !== null || child.signalCode !== null)
            reject(new Error(`ended without ${pattern}:\n${mixed}`))
          else return
          waiting.delete(look)
        }
        waiting.add(look)
        look()
        void ended.then(look)
      }),
    stop: (signal = 'SIGTERM') => {
      child.kill(signal)
      return ended
    },
  }
}

/** Runs `heddle <args>` to its end. */
export const heddleEnds = (args: readonly string[], options: Parameters<typeof heddle>[1] = {}): Promise<Ended> =>
  heddle(args, options).ended

/** Holds a free port on 127.0.0.1 until released. */
export async function holdPort(port = 0): Promise<{ port: number; release: () => Promise<void> }> {
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { port: address.port, release: () => new Promise((resolve) => void server.close(() => resolve())) }
}

/** A project in a temporary folder: `files` by name, with this repository's node_modules in reach. */
export function makeProject(files: Record<string, string>): {
  dir: string
  config: string
  write: (name: string, text: string) => void
  remove: () => void
} {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'heddle-project-')))
  symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(dir, 'node_modules'))
  const write = (name: string, text: string) => writeFileSync(join(dir, name), text)
  for (const [name, text] of Object.entries(files)) write(name, text)
  return {
    dir,
    config: join(dir, 'langgraph.json'),
    write,
    remove: () => rmSync(dir, { recursive: true, force: true }),
  }
}
