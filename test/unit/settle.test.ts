import { describe, expect, test } from 'vitest'
import type { FinalState, Outcome } from '../../src/executor/protocol.ts'
import { exhausted, judge } from '../../src/runs/settle.ts'

const run = { attempt: 2, attemptsLeft: 1, runTimeoutSeconds: 60 }
const idle: FinalState = { values: '{"a":1}', next: [], interrupts: {}, checkpoint_id: 'c' }
const stopped: FinalState = { ...idle, next: ['b'] }
const asking: FinalState = { ...idle, next: ['b'], interrupts: { t: [{ id: 'i', value: 1 }] } }
const boom = { error: 'TypeError', message: 'boom' }

const settled = (outcome: Outcome) => {
  const verdict = judge(outcome, run)
  if (verdict.do !== 'settle') throw new Error(`not settled: ${verdict.do}`)
  return verdict
}

describe('a run that came to its end', () => {
  test.each([
    ['with nothing left to do leaves its thread idle', idle, 'idle'],
    ['at a breakpoint leaves its thread interrupted', stopped, 'interrupted'],
    ['at an interrupt leaves its thread interrupted', asking, 'interrupted'],
    ['with an interrupt but nothing next leaves its thread interrupted', { ...asking, next: [] }, 'interrupted'],
  ])('%s, and is a success', (_, state, left) => {
    expect(settled({ kind: 'success', state })).toEqual({
      do: 'settle',
      error: null,
      settlement: {
        status: 'success',
        error: null,
        values: state.values,
        interrupts: state.interrupts,
        settled_status: left,
      },
    })
  })
})

test('a run whose graph threw is an error, and so is its thread, with the values it got to', () => {
  expect(settled({ kind: 'error', error: boom, state: stopped })).toMatchObject({
    error: boom,
    settlement: { status: 'error', error: boom, values: stopped.values, settled_status: 'error' },
  })
  expect(settled({ kind: 'error', error: boom }).settlement).toMatchObject({
    values: null,
    interrupts: {},
    settled_status: 'error',
  })
})

test('a run that was cancelled is interrupted, without an error', () => {
  expect(settled({ kind: 'aborted', reason: 'cancel', state: stopped })).toMatchObject({
    error: null,
    settlement: { status: 'interrupted', error: null, values: stopped.values, settled_status: 'interrupted' },
  })
  expect(settled({ kind: 'aborted', reason: 'cancel' }).settlement).toMatchObject({
    status: 'interrupted',
    values: null,
  })
})

test('a run that took too long says how long it may take', () => {
  const { error, settlement } = settled({ kind: 'aborted', reason: 'timeout', state: stopped })
  expect(error).toEqual({ error: 'RunTimeout', message: 'The run was stopped after 60 s, the longest a run may take.' })
  expect(settlement).toMatchObject({ status: 'timeout', error, settled_status: 'error' })
})

test.each([
  ['rolled back is undone', { kind: 'aborted', reason: 'rollback', state: idle }, { do: 'roll_back' }],
  ['another worker took is left alone', { kind: 'aborted', reason: 'lease_lost' }, { do: 'abandon' }],
  [
    'a stopping worker gives back is not charged',
    { kind: 'aborted', reason: 'shutdown' },
    { do: 'release', uncharge: true, suspect: false },
  ],
  [
    'crashed and has tries left is tried again, alone',
    { kind: 'crashed', cause: 'died', blame: 'culprit' },
    { do: 'release', uncharge: false, suspect: true },
  ],
  [
    'was beside one that crashed is not charged',
    { kind: 'crashed', cause: 'died', blame: 'bystander' },
    { do: 'release', uncharge: true, suspect: false },
  ],
  [
    'may have crashed its executor is not charged, but runs alone',
    { kind: 'crashed', cause: 'died', blame: 'suspect' },
    { do: 'release', uncharge: true, suspect: true },
  ],
] as [string, Outcome, object][])('a run that %s', (_, outcome, verdict) => {
  expect(judge(outcome, run)).toEqual(verdict)
})

test('a run that crashed for the last time is an error that says how often and why', () => {
  const verdict = judge(
    { kind: 'crashed', cause: 'ran out of memory', blame: 'culprit' },
    { ...run, attempt: 3, attemptsLeft: 0 },
  )
  const error = {
    error: 'RunCrashed',
    message: 'The run crashed 3 times and is not tried again. The last time it ran out of memory.',
  }
  expect(verdict).toMatchObject({ do: 'settle', error, settlement: { status: 'error', error, values: null } })
  expect(exhausted(1, 'exited').message).toContain('1 time and')
})
