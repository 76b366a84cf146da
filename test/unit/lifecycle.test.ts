import { expect, test } from 'vitest'
import type { RunStatus } from '../../src/db/runs.ts'
import { hasEnded, type Next, type RunEvent, transitions } from '../../src/runs/lifecycle.ts'

const events: RunEvent[] = ['claim', 'succeed', 'fail', 'expire', 'cancel', 'rollback', 'release', 'remove', 'drop']
const no: Next = 'refused'

// Every cell: what each event, in the order above, does in each state.
const cells: Record<RunStatus, Next[]> = {
  pending: ['running', no, no, no, 'interrupted', 'removed', no, no, 'removed'],
  running: [no, 'success', 'error', 'timeout', 'interrupted', 'removed', 'pending', no, 'removed'],
  success: [no, no, no, no, no, no, no, 'removed', 'removed'],
  error: [no, no, no, no, no, no, no, 'removed', 'removed'],
  timeout: [no, no, no, no, no, no, no, 'removed', 'removed'],
  interrupted: [no, no, no, no, no, no, no, 'removed', 'removed'],
}

test.each(Object.entries(cells))('in %s, each event does what the table says', (status, expected) => {
  expect(events.map((event) => transitions[status as RunStatus][event])).toEqual(expected)
})

test('the table has no other states and no other events', () => {
  expect(Object.keys(transitions).sort()).toEqual(Object.keys(cells).sort())
  for (const row of Object.values(transitions)) expect(Object.keys(row).sort()).toEqual([...events].sort())
})

test('a run has ended in the states that nothing changes, except that it may go', () => {
  const ended = (Object.keys(cells) as RunStatus[]).filter(hasEnded)
  expect(ended).toEqual(['success', 'error', 'timeout', 'interrupted'])
  expect(
    (Object.keys(cells) as RunStatus[]).filter((status) =>
      cells[status].every((next) => next === no || next === 'removed'),
    ),
  ).toEqual(ended)
})
