// The server's end of a child's control channel. In charge of saying when the child's event loop is blocked, of ending a
// child that is blocked too long or does not stop, and of knowing afterwards what a child ended of.

import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import type { Observe } from '../observe.ts'
import type { ControlReport, ControlRequest } from './control.ts'
import type { Ending } from './host.ts'

export interface ControlOptions {
  observe: Observe
  /** How long the event loop may be blocked, in milliseconds; 0 or absent: for ever. */
  stallMs?: number
  /** What the child is, for people. */
  name(pid: number | undefined): string
  /** The child is about to be ended because it is blocked. */
  stalled(): void
}

export interface Control {
  /** What the child ended of, as far as it or this end has said so. */
  ending(): Ending | undefined
  /** Has the child say who blocks it, if anybody does, and end itself; ends it if it does not. */
  end(cause: string): void
  close(): void
}

/** What a child gets to say its last words. */
const END_WITHIN_MS = 5_000

/** Listens to the child's control channel. */
export function createControl(child: ChildProcess, options: ControlOptions): Control {
  const { observe, stallMs = 0 } = options
  const channel = child.stdio[4] as Duplex
  let ending: Ending | undefined
  let asked: string | undefined

  const end = (cause: string) => {
    if (asked !== undefined) return
    asked = cause
    const request: ControlRequest = { type: 'end' }
    channel.write(`${JSON.stringify(request)}\n`)
    const timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN_MS)
    child.on('exit', () => clearTimeout(timer))
  }
  const blocked = ({ ms, over }: ControlReport & { type: 'blocked' }) => {
    // The first word, and the last.
    if (over || ms < 2_000) observe({ kind: 'event_loop_delayed', where: options.name(child.pid), ms })
    if (over || stallMs === 0 || ms < stallMs) return
    options.stalled()
    end(`blocked its event loop for ${Math.round(ms / 1_000)} s`)
  }

  channel.on('error', () => {})
  createInterface({ input: channel }).on('line', (line) => {
    const report = parse(line)
    if (report?.type === 'blocked') blocked(report)
    if (report?.type !== 'ending') return
    const { type: _, ...said } = report
    ending = said.none && asked !== undefined ? { ...said, cause: asked } : said
  })

  return {
    ending: () => ending ?? (asked === undefined ? undefined : { cause: asked }),
    end,
    close: () => void channel.end(),
  }
}

// User code can write there too.
function parse(line: string): ControlReport | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as ControlReport) : undefined
  } catch {
    return undefined
  }
}
