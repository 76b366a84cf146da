// Flags and how they are read. In charge of refusing bad ones before anything starts; must not open or load anything.

import { availableParallelism } from 'node:os'
import { InvalidArgumentError } from 'commander'

/** The flags of `dev` and `start`; absent ones were not given. */
export interface ServeOptions {
  config: string
  host?: string
  port?: number
  dataDir?: string
  nJobsPerWorker?: number
  executors?: number
}

export interface DevOptions extends ServeOptions {
  reload: boolean
}

export interface StartOptions extends ServeOptions {
  role: 'all' | 'api' | 'worker'
}

/** Reads a whole number from `least` to `most`. */
export const whole =
  (least: number, most: number) =>
  (text: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (!(value >= least && value <= most))
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
    return value
  }

/** How many executors a process has that was not told: a core is left to the server, and who only answers requests runs
 *  no graphs in them. */
export const defaultExecutors = (role: StartOptions['role']): number =>
  role === 'api' ? 1 : Math.max(1, availableParallelism() - 1)
