// The witness ledger: what graphs really did, written by them into a file that no part of the system under test touches.
// In charge of the file and of reading it.

import { readFileSync, writeFileSync } from 'node:fs'

/** The nodes of the graph `steps`, in order. */
export const NODES = ['one', 'two', 'three', 'four'] as const

export interface LedgerEntry {
  run: string
  thread: string
  node: string
  tag: string
  attempt: number
  /** The executor's, and that of its worker. */
  pid: number
  ppid: number
  /** Milliseconds since 1970. */
  t: number
  event: 'began' | 'ended'
}

export interface Ledger {
  readonly path: string
  read(): LedgerEntry[]
}

/** A new, empty ledger. */
export function createLedger(path: string): Ledger {
  writeFileSync(path, '')
  return {
    path,
    read: () => {
      // A process that was killed in the middle of a line left a part of it, and what came next stands behind that.
      const lines = readFileSync(path, 'utf8').split('\n')
      return lines.flatMap((line) => {
        try {
          return line === '' ? [] : [JSON.parse(line.slice(line.lastIndexOf('{"run"'))) as LedgerEntry]
        } catch {
          return []
        }
      })
    },
  }
}
