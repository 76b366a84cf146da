// The checker: holds a history to the invariants. In charge of naming every breach; pure. I7 (webhooks) has tests of its own; I8
// (cron) and I9 (tenants) belong to features that do not exist yet.

import { decodeBatch } from '../../../src/runs/log.ts'
import { checkExecutions } from './checker-executions.ts'
import { type Accepted, groupBy, type History, type StatusChange } from './history.ts'

/** How bad it is: runs lost, work done or told twice, writes by who no longer owned the run, streams with gaps. */
export type Harm = 'lost' | 'duplicated' | 'stale' | 'gap' | 'other'

export interface Breach {
  invariant: 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I10' | 'I11' | 'I12' | 'I13'
  harm: Harm
  what: string
}

const TERMINAL = new Set(['success', 'error', 'timeout', 'interrupted'])

/** Every breach of an invariant in the history. */
export function check(history: History): Breach[] {
  const ofRun = groupBy(history.statuses, ({ run_id }) => run_id)
  return [
    ...ends(history, ofRun),
    ...once(history, ofRun),
    ...checkExecutions(history),
    ...states(history, ofRun),
    ...streams(history),
    ...resources(history),
    ...answers(history),
    ...success(history, ofRun),
  ]
}

/** I1: whatever was accepted ends, and whoever waits for it is told. */
function ends(history: History, ofRun: Map<string, StatusChange[]>): Breach[] {
  const lost = (what: string): Breach => ({ invariant: 'I1', harm: 'lost', what })
  const rolledBack = new Set(history.rollbacks)
  const runs = history.accepted.flatMap((run) => {
    const last = ofRun.get(run.run_id)?.at(-1)
    if (last === undefined) return [lost(`run ${run.run_id} was accepted and was never in the database`)]
    if (last.to !== 'removed')
      return TERMINAL.has(last.to) ? [] : [lost(`run ${run.run_id} is still ${last.to}, attempt ${last.attempt}`)]
    return run.temporary || rolledBack.has(run.thread_id)
      ? []
      : [lost(`run ${run.run_id} is gone, and nobody asked for a rollback`)]
  })
  const waits = history.waits.flatMap(({ run_id, outcome, steps, said }) => {
    if (outcome === undefined) return [lost(`a client waited in vain for run ${run_id}`)]
    const isWhole = outcome === 'gone' || steps === 4 || !ofRun.get(run_id)?.some(({ to }) => to === 'success')
    return isWhole ? [] : [lost(`run ${run_id} succeeded, and its client was told of ${steps} of its 4 steps: ${said}`)]
  })
  return [...runs, ...waits]
}

/** I2: one end, for good; one run for one key. */
function once(history: History, ofRun: Map<string, StatusChange[]>): Breach[] {
  const twice = [...ofRun].flatMap(([run_id, changes]): Breach[] => {
    const end = changes.findIndex(({ to }) => TERMINAL.has(to))
    const after = end === -1 ? undefined : changes.slice(end + 1).find(({ to }) => to !== 'removed')
    return after === undefined
      ? []
      : [{ invariant: 'I2', harm: 'duplicated', what: `run ${run_id} was ${after.from} and became ${after.to}` }]
  })
  const made = groupBy(history.keys, ({ key }) => key)
  const doubles = [...made].flatMap(([key, uses]): Breach[] => {
    const runs = new Set(uses.map(({ run_id }) => run_id))
    return runs.size < 2
      ? []
      : [
          {
            invariant: 'I2',
            harm: 'duplicated',
            what: `the key ${key} made ${runs.size} runs: ${[...runs].join(', ')}`,
          },
        ]
  })
  return [...twice, ...doubles]
}

/** What the threads hold at the end is what the runs that count have done: once, and all of it. */
function states(history: History, ofRun: Map<string, StatusChange[]>): Breach[] {
  const byThread = groupBy(history.accepted, ({ thread_id }) => thread_id)
  return history.states.flatMap(({ thread_id, done }) => {
    const counts = new Map<string, number>()
    for (const item of done) counts.set(item, (counts.get(item) ?? 0) + 1)
    const repeated = [...counts].flatMap(([item, count]): Breach[] =>
      count < 2
        ? []
        : [{ invariant: 'I5', harm: 'duplicated', what: `thread ${thread_id} holds ${item} ${count} times` }],
    )
    const runs = (byThread.get(thread_id) ?? []).flatMap((run): Breach[] => {
      const has = done.filter((item) => item.startsWith(`${run.tag}:`)).length
      const last = ofRun.get(run.run_id)?.at(-1)?.to
      if (last === 'success' && has < 4)
        return [
          { invariant: 'I1', harm: 'lost', what: `run ${run.run_id} succeeded, and ${has} of its 4 steps are kept` },
        ]
      if (last === 'removed' && has > 0)
        return [
          { invariant: 'I2', harm: 'other', what: `run ${run.run_id} was rolled back, and ${has} of its steps stay` },
        ]
      return []
    })
    return [...repeated, ...runs]
  })
}

/** I6: what came on a stream is the log, once, in order, with one end. */
function streams(history: History): Breach[] {
  const gap = (what: string): Breach => ({ invariant: 'I6', harm: 'gap', what })
  const { logs, found } = logsOf(history)
  const seen = history.streams.flatMap((stream) => {
    const { run_id, ids, ends: count } = stream
    const log = logs.get(run_id) ?? []
    const back = ids.findIndex((id, i) => i > 0 && id <= (ids[i - 1] as number))
    if (back !== -1) return [gap(`the stream of ${run_id} went from ${ids[back - 1]} back to ${ids[back]}`)]
    if (count > 1) return [gap(`the stream of ${run_id} ended ${count} times`)]
    if (count === 0 && !stream.gone)
      return [gap(`the stream of ${run_id} never ended, over ${stream.connections} connections`)]
    const expected = count === 1 ? log : log.slice(0, ids.length)
    const odd = expected.findIndex((id, i) => id !== ids[i])
    const at = odd === -1 && ids.length > expected.length ? expected.length : odd
    if (at === -1 || stream.gone) return []
    return [gap(`the stream of ${run_id} had ${ids[at] ?? 'nothing'} where the log has ${expected[at] ?? 'nothing'}`)]
  })
  return [...found, ...seen]
}

/** Client-visible ids by run, and what is wrong with the log itself. */
function logsOf({ events }: History): { logs: Map<string, number[]>; found: Breach[] } {
  const logs = new Map<string, number[]>()
  const ended = new Set<string>()
  const found: Breach[] = []
  const last = new Map<string, number>()
  for (const row of events) {
    const before = last.get(row.thread_id) ?? 0
    if (row.first_seq <= before)
      found.push({
        invariant: 'I6',
        harm: 'duplicated',
        what: `thread ${row.thread_id} gave out ${row.first_seq} after ${before}`,
      })
    last.set(row.thread_id, row.last_seq)
    for (const { seq, event } of decodeBatch({ ...row, at: 0 }, 0)) {
      if (ended.has(row.run_id))
        found.push({ invariant: 'I6', harm: 'duplicated', what: `run ${row.run_id} said ${event} after its end` })
      if (event === '__end') ended.add(row.run_id)
      else if (!event.startsWith('__')) {
        const ids = logs.get(row.run_id)
        if (ids === undefined) logs.set(row.run_id, [seq])
        else ids.push(seq)
      }
    }
  }
  return { logs, found }
}

/** I10 and I11: nothing leaks, and recovery is in time. */
function resources(history: History): Breach[] {
  const leaks = history.resources.flatMap(({ name, before, after, slack }): Breach[] =>
    after <= before * 1.1 + slack
      ? []
      : [{ invariant: 'I10', harm: 'other', what: `${name} went from ${before} to ${after}` }],
  )
  const late = history.recoveries.flatMap(({ fault, run_id, ms, bound }): Breach[] =>
    ms <= bound
      ? []
      : [
          {
            invariant: 'I11',
            harm: 'other',
            what: `run ${run_id} went on ${Math.round(ms)} ms after ${fault}, not within ${bound}`,
          },
        ],
  )
  return [...leaks, ...late]
}

const INSIDES =
  /\n\s+at .+:\d+:\d+|node_modules\/|\b(select|insert into|update|delete from) .+\b(where|values|from|set)\b/i

/** I12: no 5xx but in an outage, and none that shows the insides. */
function answers(history: History): Breach[] {
  return history.suspects.flatMap(({ member, from, to, status, request, body }) => {
    const found: Breach[] = []
    const isOut = history.outages.some((out) => (out.member ?? member) === member && to >= out.from && from <= out.to)
    const words = `${member} answered ${request} with ${status}`
    if (status >= 500 && !isOut)
      found.push({ invariant: 'I12', harm: 'other', what: `${words} outside of any outage: ${body.slice(0, 200)}` })
    if (INSIDES.test(body))
      found.push({ invariant: 'I12', harm: 'other', what: `${words}, which shows its insides: ${body.slice(0, 200)}` })
    return found
  })
}

/** I13: enough happened, and enough of it well. Its graph never fails, so a run that nobody stopped succeeds. */
function success(history: History, ofRun: Map<string, StatusChange[]>): Breach[] {
  const { ratio, ended } = successOf(history.accepted, ofRun)
  const { successRatio, runs } = history.least
  if (ended < runs)
    return [{ invariant: 'I13', harm: 'other', what: `${ended} runs are too few to say anything: ${runs} are needed` }]
  return ratio >= successRatio
    ? []
    : [
        {
          invariant: 'I13',
          harm: 'other',
          what: `${(ratio * 100).toFixed(2)} % of the runs that nobody stopped succeeded`,
        },
      ]
}

/** The share of success among runs that nobody stopped. */
export function successOf(
  accepted: readonly Accepted[],
  ofRun: ReadonlyMap<string, StatusChange[]>,
): { ratio: number; ended: number; errors: number } {
  // Of a temporary run, the row goes after its end.
  const end = (run: Accepted) => ofRun.get(run.run_id)?.findLast(({ to }) => to !== 'removed')?.to
  const kinds = groupBy(accepted, end)
  const count = (kind: string) => kinds.get(kind)?.length ?? 0
  const errors = count('error') + count('timeout')
  const ended = count('success') + errors
  return { ratio: ended === 0 ? 1 : count('success') / ended, ended, errors }
}
