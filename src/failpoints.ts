// Failpoints: named places where a test makes this process die, stop or fail. In charge of reading HEDDLE_FAILPOINTS and of
// doing what it says at a place that is hit; where no failpoint is set there is no function to call. Holds no state of
// its own beyond the counts of the function it makes.

import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError } from './errors.ts'

/** The places, with what has just happened or is about to. */
export const failpointNames = [
  /** A run is in the database, and neither its worker nor its client knows. */
  'after_insert_before_reply',
  /** Runs are claimed, and none of them is started. */
  'after_claim',
  /** A batch with events is about to be written. */
  'before_event_append',
  /** A batch with checkpoints is written; its runs have not been told. */
  'after_checkpoint_commit',
  /** A batch with events is written, and nobody has heard them. */
  'after_event_append_before_publish',
  /** A run's end is about to be written. */
  'before_finalize',
  /** A batch with a run's end is written, and nobody has heard of it. */
  'after_finalize_before_ack',
  /** A wish to cancel is in the database, and the run's worker has not been told. */
  'after_cancel_before_publish',
  /** This worker's lease is about to be renewed. */
  'before_lease_renewal',
  /** A rescuer has locked lost runs and changed nothing yet. */
  'in_reaper_between_select_update',
  /** A webhook was answered, and what it was answered is not recorded. */
  'after_webhook_post_before_mark',
  /** The runs of crons that are due are written, in a transaction that has not marked the crons and is not committed. */
  'cron_after_claim',
] as const

export type FailpointName = (typeof failpointNames)[number]

/** What happens at a failpoint: `kill9` and `exit` end the process, without and with its exit handlers; `pause` waits;
 *  `error` fails as if the database were gone. `times` bounds how often; absent, it is each time. */
export interface Failpoint {
  name: FailpointName
  action: 'kill9' | 'exit' | 'pause' | 'error'
  /** Of `pause`, in milliseconds. */
  ms: number
  times?: number
}

/** Called at a failpoint; resolves when the work may go on. */
export type Fail = (name: FailpointName) => Promise<void>

const FAILPOINT = /^(\w+)=(?:(kill9|exit|error)|pause:(\d{1,7}))(?:\*(\d{1,6}))?$/

/** Reads `name=action;name=action*count`. Throws an Error whose message says, after the key, what is wrong. */
export function parseFailpoints(text: string): Failpoint[] {
  const parts = text.split(';').filter((part) => part.trim() !== '')
  return parts.map((part): Failpoint => {
    const [, name, action = 'pause', ms = '0', times] = FAILPOINT.exec(part.trim()) ?? []
    if (name === undefined || times === '0') {
      throw new Error(
        `holds "${part.trim()}": write name=action, the action being kill9, exit, error or pause:milliseconds, with *count if it is to happen only so often`,
      )
    }
    if (!failpointNames.some((known) => known === name))
      throw new Error(`names a failpoint "${name}" that does not exist: there are ${failpointNames.join(', ')}`)
    const known = { name: name as FailpointName, action: action as Failpoint['action'], ms: Number(ms) }
    return times === undefined ? known : { ...known, times: Number(times) }
  })
}

/** The function that is called at failpoints; undefined where none is set. `end` ends this process. */
export function createFail(
  failpoints: readonly Failpoint[],
  end: (how: 'kill9' | 'exit') => void = endProcess,
): Fail | undefined {
  if (failpoints.length === 0) return undefined
  const left = failpoints.map((failpoint) => ({ ...failpoint, times: failpoint.times ?? Number.POSITIVE_INFINITY }))
  return async (name) => {
    for (const failpoint of left) {
      if (failpoint.name !== name || failpoint.times <= 0) continue
      failpoint.times--
      if (failpoint.action === 'pause') await sleep(failpoint.ms)
      else if (failpoint.action === 'error')
        throw new ApiError('database_unavailable', `The failpoint ${name} was hit.`)
      else end(failpoint.action)
    }
  }
}

function endProcess(how: 'kill9' | 'exit'): void {
  if (how === 'kill9') process.kill(process.pid, 'SIGKILL')
  else process.exit(1)
}
