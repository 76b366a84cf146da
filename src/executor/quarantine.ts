// Where runs go that may have brought an executor down: each alone in an instance, so that if that dies too, it is known of
// what. In charge of how many such instances there are; they are started when needed and ended when idle.

import type { RunHandle, RunSink } from './executor.ts'
import type { Instance } from './host.ts'
import { type Lent, runLater } from './later.ts'
import type { Job, Outcome } from './protocol.ts'

/** How long an instance stays for the next suspect. */
const IDLE_MS = 10_000
/** How long a suspect waits for one of the few instances there should be. Runs may take hours: then there are more. */
const PATIENCE_MS = 500

export interface Quarantine {
  /** Runs a job alone, when it is its turn. */
  run(job: Job, sink: RunSink): RunHandle
  /** An instance is gone, or of no more use. */
  lost(instance: Instance): void
  /** Instances begun before now take no more runs: their code is old. */
  retire(): void
  close(reason: Error): void
}

interface Cell {
  instance: Instance
  busy: boolean
  isOld: boolean
  idle?: NodeJS.Timeout
}

interface Waiting {
  resolve(lent: Lent): void
  reject(error: Error): void
}

/** Starts `limit` instances at once, and more one after the other; `begin` gives one sooner or later, and rejects only once all is closed. */
export function createQuarantine(options: { limit: number; begin(): Promise<Instance> }): Quarantine {
  const cells = new Set<Cell>()
  const queue: Waiting[] = []
  let beginning = 0
  let patience: NodeJS.Timeout | undefined

  const end = (cell: Cell) => {
    clearTimeout(cell.idle)
    if (cells.delete(cell)) void cell.instance.end()
  }

  const give = (cell: Cell, to: Waiting) => {
    clearTimeout(cell.idle)
    cell.busy = true
    to.resolve({ host: cell.instance.host, giveBack: (outcome) => takeBack(cell, outcome) })
  }

  const takeBack = (cell: Cell, outcome: Outcome | undefined) => {
    cell.busy = false
    // What crashed in it may still be going on there.
    if (cell.isOld || outcome?.kind === 'crashed') end(cell)
    else cell.idle = setTimeout(() => end(cell), IDLE_MS).unref()
    work()
  }

  const open = async () => {
    beginning++
    try {
      const instance = await options.begin()
      cells.add({ instance, busy: false, isOld: false })
    } catch {
      // Closed meanwhile: so is the queue.
    } finally {
      beginning--
      work()
    }
  }

  const work = () => {
    for (const cell of cells) {
      const next = cell.busy ? undefined : queue.shift()
      if (next) give(cell, next)
    }
    while (beginning < queue.length && cells.size + beginning < options.limit) void open()
    if (beginning < queue.length) patience ??= setTimeout(more, PATIENCE_MS).unref()
  }

  const more = () => {
    patience = undefined
    if (beginning < queue.length) void open()
    work()
  }

  return {
    run: (job, sink) => {
      const coming = new Promise<Lent>((resolve, reject) => queue.push({ resolve, reject }))
      work()
      return runLater(coming, job, sink)
    },
    lost: (instance) => {
      for (const cell of cells) {
        if (cell.instance !== instance) continue
        clearTimeout(cell.idle)
        cells.delete(cell)
      }
      work()
    },
    retire: () => {
      for (const cell of cells) {
        cell.isOld = true
        if (!cell.busy) end(cell)
      }
    },
    close: (reason) => {
      clearTimeout(patience)
      for (const cell of cells) clearTimeout(cell.idle)
      cells.clear()
      for (const { reject } of queue.splice(0)) reject(reason)
    },
  }
}
