// When a cron is due: five fields or a macro, read in a time zone. In charge of the law of clock changes: a time of day that
// is missing falls on the next moment there is, one that comes twice counts once. Pure; the present is an argument.

import { Cron } from 'croner'
import { ApiError } from '../errors.ts'

/** Moments are milliseconds since 1970. */
export interface Schedule {
  /** The first slot after a moment; undefined where none ever comes. */
  next(after: number): number | undefined
  /** The last slot of `from <= slot <= until`. */
  latest(from: number, until: number): number | undefined
}

const DAY = 86_400_000

const MACROS: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
}
const FIELDS = ['minute', 'hour', 'day of month', 'month', 'day of week'] as const

/** Reads a schedule; a null time zone is UTC. Throws `validation_failed` with the field that is to blame. */
export function parseSchedule(text: string, timezone: string | null): Schedule {
  const fields = (MACROS[text.trim().toLowerCase()] ?? text).trim().split(/\s+/)
  const walls = wallsOf(fields)
  const clock = createClock(timezone ?? 'UTC')
  let hourly: boolean | undefined
  /** It is not a time of day that such a schedule names: were a repeated hour to count once, it would pause for that hour. */
  const isHourly = () => {
    hourly ??= namesEveryHour(fields)
    return hourly
  }

  function momentsOf(wall: number): number[] {
    const moments = clock.moments(wall)
    return moments.length > 1 && !isHourly() ? moments.slice(0, 1) : moments
  }

  /** The first slot at a reading that comes again, which `walls` has passed by. */
  function again(after: number): number | undefined {
    const back = clock.putBack(after, after + DAY)
    if (back === undefined || !isHourly()) return undefined
    const wall = walls(back.moment + back.offset - 1)
    return wall && clock.moments(wall).find((moment) => moment >= back.moment)
  }

  function next(after: number): number | undefined {
    let wall = walls(clock.reading(after))
    while (wall !== undefined) {
      const moment = momentsOf(wall).find((each) => each > after)
      if (moment !== undefined) return Math.min(moment, again(after) ?? moment)
      wall = walls(wall)
    }
    return undefined
  }

  return {
    next,
    latest(from, until) {
      let last = next(from - 1)
      if (last === undefined || last > until) return undefined
      // There may be very many; none is in what has been found empty, before `until`.
      for (let empty = until; ; ) {
        const following = next(last)
        if (following === undefined || following > empty) return last
        const middle = following + Math.floor((empty - following) / 2)
        const beyond = next(middle)
        if (beyond !== undefined && beyond <= until) last = beyond
        else {
          last = following
          empty = middle
        }
      }
    },
  }
}

const invalid = (detail: string) => new ApiError('validation_failed', detail)

// In UTC the library reckons with dates alone, so that what it finds is a reading of any clock.
const cronOf = (fields: readonly string[]): Cron =>
  new Cron(fields.join(' '), { timezone: 'UTC', mode: '5-part', paused: true })

/** Gives the first reading after a reading, which is a moment as if the clock showed UTC. */
function wallsOf(fields: readonly string[]): (after: number) => number | undefined {
  if (fields.length !== FIELDS.length) {
    throw invalid('body.schedule: must be five fields, such as "0 9 * * 1-5", or one of the macros like @daily')
  }
  const cron = understood(fields) ?? blame(fields)
  return (after) => cron.nextRun(new Date(after))?.getTime()
}

function understood(fields: readonly string[]): Cron | undefined {
  try {
    return cronOf(fields)
  } catch {
    return undefined
  }
}

function blame(fields: readonly string[]): never {
  const wrong = fields.findIndex((field, i) => !understood(FIELDS.map((_, k) => (k === i ? field : '*'))))
  const where = wrong < 0 ? 'its fields' : `field ${wrong + 1}, the ${FIELDS[wrong]},`
  throw invalid(`body.schedule: ${where} cannot be understood`)
}

function namesEveryHour([, hour = '*']: readonly string[]): boolean {
  const hours = cronOf(['0', hour, '*', '*', '*'])
  return Array.from({ length: 24 }, (_, i) => hours.match(new Date(Date.UTC(2000, 0, 1, i)))).every(Boolean)
}

interface Clock {
  /** What the clock shows at a moment. */
  reading(moment: number): number
  /** The moments at which it shows a reading, in order; where there is none, the moment at which it skips it. */
  moments(reading: number): number[]
  /** When it is next put back, and its offset from then on. */
  putBack(from: number, until: number): { moment: number; offset: number } | undefined
}

function createClock(timezone: string): Clock {
  const offset = offsetsOf(timezone)
  /** The first moment with another offset than at `from`, where there is one change before `until`. */
  const change = (from: number, until: number): number => {
    const first = offset(from)
    let [before, after] = [from, until]
    while (after - before > 1) {
      const middle = before + Math.floor((after - before) / 2)
      if (offset(middle) === first) before = middle
      else after = middle
    }
    return after
  }
  return {
    reading: (moment) => moment + offset(moment),
    moments(reading) {
      // No clock is a day away from UTC.
      const offsets = [offset(reading - DAY), offset(reading + DAY)]
      const moments = [...new Set(offsets.map((each) => reading - each))].sort((a, b) => a - b)
      const shown = moments.filter((moment) => moment + offset(moment) === reading)
      return shown.length > 0 ? shown : [change(reading - DAY, reading + DAY)]
    },
    putBack(from, until) {
      const later = offset(until)
      return later < offset(from) ? { moment: change(from, until), offset: later } : undefined
    },
  }
}

const OFFSET = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/

/** The offset from UTC at a moment, in milliseconds. Throws `validation_failed` for a name that is no time zone. */
function offsetsOf(timezone: string): (moment: number) => number {
  if (timezone.toUpperCase() === 'UTC') return () => 0
  const format = formatOf(timezone)
  return (moment) => {
    const [, sign, hours = '0', minutes = '0', seconds = '0'] = OFFSET.exec(format.format(moment)) ?? []
    const distance = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1_000
    return sign === '-' ? -distance : distance
  }
}

function formatOf(timezone: string): Intl.DateTimeFormat {
  try {
    // A fixed offset is no zone; not every version of Node would take it.
    if (/^[A-Za-z]/.test(timezone))
      return new Intl.DateTimeFormat('en-US', { timeZone: timezone, timeZoneName: 'longOffset' })
  } catch {
    // It is not known.
  }
  throw invalid('body.timezone: must be the name of a time zone, such as Europe/Berlin')
}
