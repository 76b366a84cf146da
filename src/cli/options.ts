// Flags and how they are read. In charge of refusing bad ones before anything starts; must not open or load anything.

import { InvalidArgumentError } from 'commander'

/** The flags of `dev` and `start`; absent ones were not given. */
export interface ServeOptions {
  config: string
  host?: string
  port?: number
  dataDir?: string
  nJobsPerWorker?: number
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

/** Reads `--executors`; one executor per process is what there is. */
export function oneExecutor(text: string): number {
  if (whole(1, 1024)(text) !== 1) {
    throw new InvalidArgumentError('One executor per process is supported for now: start more processes instead.')
  }
  return 1
}
