// The lock on an embedded data directory: a file that names the process that holds it. A holder that is gone (kill -9)
// is told from a live one by its pid and that process's start time, so a reused pid does not lock anyone out.

import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError } from '../errors.ts'

/** Each is a few file operations; others may be taking the lock over meanwhile. */
const MAX_TRIES = 1_000

/** Takes the lock; the answer releases it. Throws `ConfigError` naming the holder. */
export function lockDirectory(dir: string): () => void {
  mkdirSync(dir, { recursive: true })
  const path = join(dir, 'lock')
  const mine = `${path}.${process.pid}`
  writeFileSync(mine, JSON.stringify({ pid: process.pid, started: startedAt(process.pid) }))
  try {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      if (linked(mine, path)) return () => rmSync(path, { force: true })
      const holder = readHolder(path)
      if (holder && alive(holder)) {
        throw new ConfigError(
          `The data directory ${dir} is in use by process ${holder.pid}: stop that process, or pass another --data-dir.`,
        )
      }
      removeStale(mine, path)
    }
    throw new ConfigError(`The data directory ${dir} could not be locked: another process keeps taking it.`)
  } finally {
    rmSync(mine, { force: true })
  }
}

interface Holder {
  pid: number
  started: string | null
}

// One process at a time, and looking again: else a slow one could remove the lock that a faster one has just taken.
function removeStale(mine: string, path: string): void {
  const turn = `${path}.turn`
  if (!linked(mine, turn)) {
    const other = readHolder(turn)
    // It died in here.
    if (other && !alive(other)) rmSync(turn, { force: true })
    return
  }
  try {
    const holder = readHolder(path)
    if (!holder || !alive(holder)) rmSync(path, { force: true })
  } finally {
    rmSync(turn, { force: true })
  }
}

// A hard link is atomic: exactly one process makes it.
function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

function alive({ pid, started }: Holder): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  // The same process would only be locked by itself: two servers in one program on one directory are refused too.
  return started === null || startedAt(pid) === started
}

/** A process's start time as the kernel counts it; null where /proc does not exist. */
function startedAt(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}
