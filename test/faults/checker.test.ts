// The checker: it finds nothing in a history that is right, and names each way in which one can be wrong.

import { expect, test } from 'vitest'
import { type Breach, check } from './support/checker.ts'
import { emptyHistory, type History } from './support/history.ts'
import { NODES } from './support/ledger.ts'
import { faultKinds, planFaults } from './support/nemesis.ts'
import { createRandom } from './support/random.ts'
import { recoveriesOf } from './support/soak.ts'

/** One run that lost its worker after its second node, went on in another, and was followed and waited for. */
function rightHistory(): History {
  const run_id = 'run'
  const thread_id = 'thread'
  const of = { run_id, thread_id }
  const status = (n: number, from: string | null, to: string, attempt: number) => ({
    n,
    at: n * 100,
    ...of,
    from,
    to,
    attempt,
  })
  const hold = (n: number, from: string | null, to: string | null, epoch: number) => ({
    n,
    at: n * 100,
    tx: n,
    thread_id,
    from,
    to,
    epoch,
  })
  const write = (n: number, step: number | null, tx = n) => ({
    n,
    at: n * 100,
    tx,
    kind: step === null ? ('events' as const) : ('checkpoint' as const),
    ...of,
    step,
  })
  const began = (node: string, attempt: number, t: number) => ({
    run: run_id,
    thread: thread_id,
    node,
    tag: 'r0',
    attempt,
    pid: attempt,
    ppid: 10 + attempt,
    t,
    event: 'began' as const,
  })
  return {
    ...emptyHistory(),
    accepted: [{ ...of, tag: 'r0', strategy: 'enqueue', at: 100, temporary: false }],
    keys: [
      { key: 'k', run_id },
      { key: 'k', run_id },
    ],
    waits: [{ ...of, tag: 'r0', outcome: 'values', steps: 4, said: '200 {}' }],
    streams: [{ ...of, ids: [1, 2, 3, 4, 5, 6], ends: 1, connections: 2, gone: false }],
    statuses: [
      status(1, null, 'pending', 0),
      status(2, 'pending', 'running', 1),
      status(10, 'running', 'pending', 1),
      status(12, 'pending', 'running', 2),
      status(20, 'running', 'success', 2),
    ],
    holds: [hold(3, null, run_id, 1), hold(11, run_id, null, 2), hold(13, null, run_id, 3), hold(21, run_id, null, 3)],
    writes: [
      write(4, null),
      write(5, 0),
      write(6, 1),
      write(7, 2),
      write(14, null),
      write(15, 3),
      write(16, 4),
      write(22, null, 21),
    ],
    ledger: [
      began('one', 1, 410),
      began('two', 1, 610),
      began('three', 1, 710),
      began('three', 2, 1310),
      began('four', 2, 1510),
    ],
    events: [
      { ...of, first_seq: 1, last_seq: 3, batch: ['metadata\t{}', 'updates\t1', 'updates\t2'].join('\n') },
      { ...of, first_seq: 4, last_seq: 7, batch: ['metadata\t{}', 'updates\t3', 'updates\t4', '__end\t{}'].join('\n') },
    ],
    states: [{ thread_id, done: NODES.map((node) => `r0:${node}`) }],
    resources: [{ name: 'sessions', before: 40, after: 44, slack: 0 }],
    recoveries: [{ fault: 'kill_worker', run_id, ms: 900, bound: 1_000 }],
    suspects: [{ member: 'api1', from: 500, to: 510, status: 503, request: 'GET /', body: '{"code":"overloaded"}' }],
    outages: [{ member: 'api1', from: 400, to: 600 }],
    least: { successRatio: 1, runs: 1 },
  }
}

test('finds nothing in a history that is right', () => {
  expect(check(rightHistory())).toEqual([])
})

type Change = (history: History) => void
const last = <T>(items: T[]): T => items[items.length - 1] as T

test.each<[what: string, change: Change, breach: Partial<Breach>]>([
  [
    'a run that is still running',
    (h) => h.statuses.pop(),
    { invariant: 'I1', harm: 'lost', what: 'run run is still running, attempt 2' },
  ],
  [
    'a run that never reached the database',
    (h) => Object.assign(h, { statuses: [] }),
    { invariant: 'I1', harm: 'lost', what: 'run run was accepted and was never in the database' },
  ],
  [
    'a run that vanished',
    (h) => h.statuses.push({ ...last(h.statuses), n: 30, from: 'success', to: 'removed' }),
    { invariant: 'I1', harm: 'lost', what: 'run run is gone, and nobody asked for a rollback' },
  ],
  [
    'a client that nobody answered',
    (h) => Object.assign(last(h.waits), { outcome: undefined }),
    { invariant: 'I1', harm: 'lost', what: 'a client waited in vain for run run' },
  ],
  [
    'an answer that lacks a step',
    (h) => Object.assign(last(h.waits), { steps: 3 }),
    { invariant: 'I1', harm: 'lost', what: 'run run succeeded, and its client was told of 3 of its 4 steps: 200 {}' },
  ],
  [
    'a state that lacks a step',
    (h) => last(h.states).done.pop(),
    { invariant: 'I1', harm: 'lost', what: 'run run succeeded, and 3 of its 4 steps are kept' },
  ],
  [
    'a run that ended twice',
    (h) => h.statuses.push({ ...last(h.statuses), n: 30, from: 'success', to: 'error' }),
    { invariant: 'I2', harm: 'duplicated', what: 'run run was success and became error' },
  ],
  [
    'a run that came back',
    (h) => h.statuses.splice(3, 0, { ...last(h.statuses), n: 11, from: 'running', to: 'interrupted' }),
    { invariant: 'I2', harm: 'duplicated', what: 'run run was pending and became running' },
  ],
  [
    'a key that made two runs',
    (h) => h.keys.push({ key: 'k', run_id: 'other' }),
    { invariant: 'I2', harm: 'duplicated', what: 'the key k made 2 runs: run, other' },
  ],
  [
    'a rolled-back run whose steps stay',
    (h) => {
      h.rollbacks.push('thread')
      h.statuses.push({ ...last(h.statuses), n: 30, from: 'interrupted', to: 'removed' })
    },
    { invariant: 'I2', harm: 'other', what: 'run run was rolled back, and 4 of its steps stay' },
  ],
  [
    'a write after the run was taken over',
    (h) => h.writes.splice(4, 0, { ...last(h.writes), n: 11.5, tx: 99 }),
    { invariant: 'I3', harm: 'stale', what: 'events of run run were written while nobody held the thread' },
  ],
  [
    'a write while another run held the thread',
    (h) => h.writes.splice(5, 0, { ...last(h.writes), n: 14.5, tx: 99, run_id: 'old', kind: 'checkpoint' }),
    { invariant: 'I3', harm: 'stale', what: 'checkpoint of run old were written while run held the thread' },
  ],
  [
    'a holder who did not wait for the one before',
    (h) => h.holds.splice(1, 1),
    { invariant: 'I4', harm: 'other', what: 'thread thread went from run at 1 to run at 3' },
  ],
  [
    'a claim without a new epoch',
    (h) => Object.assign(h.holds[2] ?? {}, { epoch: 2 }),
    { invariant: 'I4', harm: 'other', what: 'thread thread went from null at 2 to run at 2' },
  ],
  [
    'two runs at once on a thread',
    (h) => {
      h.statuses.splice(4, 0, {
        n: 15,
        at: 1500,
        run_id: 'other',
        thread_id: 'thread',
        from: null,
        to: 'running',
        attempt: 1,
      })
    },
    { invariant: 'I4', harm: 'other', what: 'runs run and other ran on thread thread at the same time' },
  ],
  [
    'a committed node that ran again',
    (h) => h.ledger.splice(3, 0, { ...last(h.ledger), node: 'two', t: 1290 }),
    {
      invariant: 'I5',
      harm: 'duplicated',
      what: 'attempt 2 of run run ran node two again, which was committed before it began',
    },
  ],
  [
    'a state that holds a step twice',
    (h) => last(h.states).done.push('r0:two'),
    { invariant: 'I5', harm: 'duplicated', what: 'thread thread holds r0:two 2 times' },
  ],
  [
    'a stream with a gap',
    (h) => last(h.streams).ids.splice(2, 1),
    { invariant: 'I6', harm: 'gap', what: 'the stream of run had 4 where the log has 3' },
  ],
  [
    'a stream that ends too early',
    (h) => last(h.streams).ids.pop(),
    { invariant: 'I6', harm: 'gap', what: 'the stream of run had nothing where the log has 6' },
  ],
  [
    'a stream with an event that is not in the log',
    (h) => last(h.streams).ids.push(8),
    { invariant: 'I6', harm: 'gap', what: 'the stream of run had 8 where the log has nothing' },
  ],
  [
    'a stream that repeats itself',
    (h) => last(h.streams).ids.splice(3, 0, 3),
    { invariant: 'I6', harm: 'gap', what: 'the stream of run went from 3 back to 3' },
  ],
  [
    'a stream that never ends',
    (h) => Object.assign(last(h.streams), { ends: 0 }),
    { invariant: 'I6', harm: 'gap', what: 'the stream of run never ended, over 2 connections' },
  ],
  [
    'a stream with two ends',
    (h) => Object.assign(last(h.streams), { ends: 2 }),
    { invariant: 'I6', harm: 'gap', what: 'the stream of run ended 2 times' },
  ],
  [
    'a log that gives out an id twice',
    (h) => Object.assign(last(h.events), { first_seq: 3 }),
    { invariant: 'I6', harm: 'duplicated', what: 'thread thread gave out 3 after 3' },
  ],
  [
    'a log that goes on after the end',
    (h) => void h.events.push({ ...last(h.events), first_seq: 8, last_seq: 8, batch: 'updates\t5' }),
    { invariant: 'I6', harm: 'duplicated', what: 'run run said updates after its end' },
  ],
  [
    'a leak',
    (h) => Object.assign(last(h.resources), { after: 45 }),
    { invariant: 'I10', harm: 'other', what: 'sessions went from 40 to 45' },
  ],
  [
    'a recovery that took too long',
    (h) => Object.assign(last(h.recoveries), { ms: 1_001 }),
    { invariant: 'I11', harm: 'other', what: 'run run went on 1001 ms after kill_worker, not within 1000' },
  ],
  [
    'a 5xx outside of any outage',
    (h) => Object.assign(last(h.suspects), { from: 601, to: 602 }),
    {
      invariant: 'I12',
      harm: 'other',
      what: 'api1 answered GET / with 503 outside of any outage: {"code":"overloaded"}',
    },
  ],
  [
    'a 5xx of another process in an outage',
    (h) => Object.assign(last(h.suspects), { member: 'api2' }),
    {
      invariant: 'I12',
      harm: 'other',
      what: 'api2 answered GET / with 503 outside of any outage: {"code":"overloaded"}',
    },
  ],
  [
    'a stack trace in an answer',
    (h) => Object.assign(last(h.suspects), { body: 'Error\n    at work (/srv/x.js:1:2)' }),
    { invariant: 'I12', harm: 'other', what: expect.stringContaining('shows its insides') },
  ],
  [
    'SQL in an answer',
    (h) => Object.assign(last(h.suspects), { body: 'syntax error in: select 1 from runs where' }),
    { invariant: 'I12', harm: 'other', what: expect.stringContaining('shows its insides') },
  ],
  [
    'runs that fail',
    (h) => Object.assign(last(h.statuses), { to: 'error' }),
    { invariant: 'I13', harm: 'other', what: '0.00 % of the runs that nobody stopped succeeded' },
  ],
  [
    'a trivial pass',
    (h) => Object.assign(h.least, { runs: 2 }),
    { invariant: 'I13', harm: 'other', what: '1 runs are too few to say anything: 2 are needed' },
  ],
])('finds %s', (_, change, breach) => {
  const history = rightHistory()
  change(history)
  const found = check(history)
  expect(found).toContainEqual(breach)
  // Some faults break more than one law; none is broken that has nothing to do with it.
  expect(found.length).toBeLessThanOrEqual(3)
})

test('measures from the kill until a lost run is claimed again, and grants what else was out meanwhile', () => {
  const { ledger, statuses } = rightHistory()
  const kill = { kind: 'kill_worker' as const, pid: 11, at: 750 }
  const recovery = { fault: 'kill_worker', run_id: 'run', ms: 450, bound: 8_000 }
  expect(recoveriesOf([kill], ledger, statuses, [], 3)).toEqual([recovery])
  expect(recoveriesOf([kill], ledger, statuses, [{ from: 700, to: 850 }], 3)).toEqual([{ ...recovery, bound: 8_100 }])
  // Its process was another one, or it had ended before.
  expect(recoveriesOf([{ ...kill, pid: 12 }], ledger, statuses, [], 3)).toEqual([])
  expect(recoveriesOf([{ ...kill, pid: 12, at: 2_500 }], ledger, statuses, [], 3)).toEqual([])
})

test('a plan comes again with its seed, and every kind of fault is in it before any comes again', () => {
  const plan = (seed: number) =>
    planFaults(createRandom(seed).fork('plan'), { durationMs: 300_000, everyMs: 5_000, leaseMs: 3_000 })
  expect(plan(7)).toEqual(plan(7))
  expect(plan(7)).not.toEqual(plan(8))
  const times = plan(7).map(({ atMs }) => atMs)
  expect(times).toEqual(times.toSorted((a, b) => a - b))
  expect(new Set(plan(7).map(({ kind }) => kind))).toEqual(new Set(faultKinds))
})
