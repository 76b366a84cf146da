// Schedules and when they are due, by an implementation of their own: every reading of every clock that a schedule names is
// looked at, by Temporal. Knows nothing of the product.

import fc from 'fast-check'
import { Temporal } from 'temporal-polyfill'

interface Field {
  text: string
  values: ReadonlySet<number>
}
export interface Fields {
  minute: Field
  hour: Field
  day: Field
  month: Field
  weekday: Field
}

const range = (from: number, to: number, step = 1): number[] => {
  const values: number[] = []
  for (let value = from; value <= to; value += step) values.push(value)
  return values
}

/** A field of a schedule together with what it means, so that nothing has to be parsed here. */
const field = (min: number, max: number): fc.Arbitrary<Field> => {
  const value = fc.integer({ min, max })
  const span = fc.tuple(value, value).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
  const step = fc.integer({ min: 1, max: max - min })
  const part = fc.oneof(
    value.map((one): [string, number[]] => [`${one}`, [one]]),
    span.map(([from, to]): [string, number[]] => [`${from}-${to}`, range(from, to)]),
    fc.tuple(span, step).map(([[from, to], by]): [string, number[]] => [`${from}-${to}/${by}`, range(from, to, by)]),
  )
  const all = { text: '*', values: new Set(range(min, max)) }
  return fc.oneof(
    fc.constant(all),
    step.map((by) => ({ text: `*/${by}`, values: new Set(range(min, max, by)) })),
    fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => ({
      text: parts.map(([text]) => text).join(','),
      values: new Set(parts.flatMap(([, values]) => values)),
    })),
  )
}
const star = (min: number, max: number) => fc.constant({ text: '*', values: new Set(range(min, max)) })
const mostly = (min: number, max: number) =>
  fc.oneof({ weight: 3, arbitrary: star(min, max) }, { weight: 1, arbitrary: field(min, max) })
export const fields: fc.Arbitrary<Fields> = fc.record({
  minute: field(0, 59),
  hour: field(0, 23),
  day: mostly(1, 31),
  month: mostly(1, 12),
  weekday: mostly(0, 6),
})
/** The five fields. */
export const textOf = ({ minute, hour, day, month, weekday }: Fields): string =>
  [minute, hour, day, month, weekday].map(({ text }) => text).join(' ')

function names(of: Fields, date: Temporal.PlainDate): boolean {
  if (!of.month.values.has(date.month)) return false
  const day = of.day.values.has(date.day)
  const weekday = of.weekday.values.has(date.dayOfWeek % 7)
  return of.day.text === '*' || of.weekday.text === '*' ? day && weekday : day || weekday
}

/** The moments that a reading of the clock stands for. */
function momentsOf(reading: Temporal.PlainDateTime, timezone: string, everyHour: boolean): number[] {
  const earlier = reading.toZonedDateTime(timezone, { disambiguation: 'earlier' })
  const later = reading.toZonedDateTime(timezone, { disambiguation: 'later' })
  if (!earlier.toPlainDateTime().equals(reading)) return [earlier.getTimeZoneTransition('next')?.epochMilliseconds ?? 0]
  return everyHour ? [earlier.epochMilliseconds, later.epochMilliseconds] : [earlier.epochMilliseconds]
}

/** Every slot of `from < slot <= until`, found by looking at each reading of the clock there is. */
export function expected(of: Fields, timezone: string, from: number, until: number): number[] {
  const zoned = (moment: number) =>
    Temporal.Instant.fromEpochMilliseconds(moment).toZonedDateTimeISO(timezone).toPlainDate()
  const found = new Set<number>()
  const last = zoned(until).add({ days: 1 })
  for (
    let date = zoned(from).subtract({ days: 2 });
    Temporal.PlainDate.compare(date, last) <= 0;
    date = date.add({ days: 1 })
  ) {
    if (!names(of, date)) continue
    for (const hour of of.hour.values)
      for (const minute of of.minute.values)
        for (const moment of momentsOf(date.toPlainDateTime({ hour, minute }), timezone, of.hour.values.size === 24))
          if (moment > from && moment <= until) found.add(moment)
  }
  return [...found].sort((a, b) => a - b)
}

/** How far slots are compared, in milliseconds. */
export const DAYS = 2 * 86_400_000
/** Where clocks change at different hours, by different amounts, and once by a day. */
export const zones = ['Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Apia', 'America/Havana']

/** Moments around changes of the clock as a rule, which are what it is about. */
export const moments = (timezone: string): fc.Arbitrary<number> => {
  const changes: number[] = []
  let moment = Temporal.ZonedDateTime.from(`2005-01-01T00:00[${timezone}]`)
  for (let i = 0; i < 60; i++) {
    const next = moment.getTimeZoneTransition('next')
    if (next === null || next.year > 2036) break
    changes.push(next.epochMilliseconds)
    moment = next
  }
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.constantFrom(...changes), fc.integer({ min: -DAYS, max: DAYS / 2 }))
        .map(([change, by]) => change + by),
    },
    { weight: 1, arbitrary: fc.integer({ min: Date.parse('2005-01-01'), max: Date.parse('2036-01-01') }) },
  )
}
