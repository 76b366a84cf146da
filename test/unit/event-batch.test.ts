import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createEventBatch } from '../../src/executor/batch.ts'
import type { StreamEvent } from '../../src/executor/protocol.ts'

function batches() {
  const sent: { names: string[]; now: boolean }[] = []
  const batch = createEventBatch({
    events: async (events: StreamEvent[], options) => {
      sent.push({ names: events.map(({ event }) => event), now: options?.now ?? false })
    },
  })
  return { batch, sent }
}

/** Time passes without the event loop's getting its turn. */
const work = (ms: number) => vi.advanceTimersByTime(ms)

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('events of a turn of the event loop', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
  afterEach(() => void vi.useRealTimers())

  it('leave together at its end', async () => {
    const { batch, sent } = batches()
    batch.add('values', '1')
    work(9)
    batch.add('values', '2')
    expect(sent).toEqual([])
    await turn()
    expect(sent).toEqual([{ names: ['values', 'values'], now: false }])
  })

  it('do not wait for the end of a turn that takes long', () => {
    const { batch, sent } = batches()
    batch.add('values', '1')
    work(11)
    batch.add('values', '2')
    expect(sent).toEqual([{ names: ['values', 'values'], now: true }])
  })

  it('leave at once where the first is urgent and comes after a pause', () => {
    const { batch, sent } = batches()
    work(2)
    batch.add('messages', '1', true)
    expect(sent).toEqual([{ names: ['messages'], now: true }])
  })

  it('leave with an urgent one after a moment', () => {
    const { batch, sent } = batches()
    batch.add('values', '1')
    work(2)
    batch.add('messages', '2', true)
    expect(sent).toEqual([{ names: ['values', 'messages'], now: true }])
  })
})
