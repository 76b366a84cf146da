// Gates at which a node of a test's graph waits until the test lets it go on. In charge of making "while it runs" something
// that a test decides.

import { until } from './until.ts'

export interface Gates {
  /** For the graph: waits at the gate; rejects when the signal aborts. A gate that was opened lets everybody through. */
  pass(name: string, signal: AbortSignal | undefined): Promise<void>
  /** For the test: resolves when `count` nodes have come to the gate in all. */
  reached(name: string, count?: number): Promise<void>
  open(name: string): void
}

interface Gate {
  came: number
  isOpen: boolean
  waiting: Set<() => void>
}

export function createGates(): Gates {
  const gates = new Map<string, Gate>()
  const at = (name: string): Gate => {
    const gate = gates.get(name) ?? { came: 0, isOpen: false, waiting: new Set() }
    gates.set(name, gate)
    return gate
  }
  return {
    pass: (name, signal) =>
      new Promise((resolve, reject) => {
        const gate = at(name)
        gate.came++
        if (gate.isOpen) return resolve()
        gate.waiting.add(resolve)
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      }),
    reached: async (name, count = 1) => {
      await until(`${count} at the gate ${name}`, () => at(name).came >= count)
    },
    open: (name) => {
      const gate = at(name)
      gate.isOpen = true
      for (const resolve of gate.waiting) resolve()
    },
  }
}
