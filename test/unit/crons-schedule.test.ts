// Schedules against an implementation of their own: every reading of every clock that a schedule names, by Temporal.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ApiError } from '../../src/errors.ts'
import { parseSchedule } from '../../src/runs/schedule.ts'
import { DAYS, expected, fields, moments, textOf, zones } from '../support/cron-slots.ts'

const at = (text: string): number => Date.parse(text)
const iso = (moment: number | undefined): string | undefined =>
  moment === undefined ? undefined : new Date(moment).toISOString().replace(':00.000Z', 'Z')

/** The slots after a moment, as many as are asked for. */
function slots(schedule: string, timezone: string | null, after: string, count: number): (string | undefined)[] {
  const { next } = parseSchedule(schedule, timezone)
  const found: number[] = []
  for (let moment = next(at(after)); moment !== undefined && found.length < count; moment = next(moment))
    found.push(moment)
  return found.map(iso)
}

describe('a clock that changes', () => {
  test('a time that is missing falls on the next moment there is', () => {
    expect(slots('30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', 2)).toEqual([
      '2026-03-29T01:00Z',
      '2026-03-30T00:30Z',
    ])
    expect(slots('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T12:00:00Z', 1)).toEqual(['2026-10-03T15:30Z'])
    // Samoa had no 30 December.
    expect(slots('0 9,12 * * *', 'Pacific/Apia', '2011-12-29T20:00:00Z', 3)).toEqual([
      '2011-12-29T22:00Z',
      '2011-12-30T10:00Z',
      '2011-12-30T19:00Z',
    ])
  })

  test('a time that comes twice counts once, at the first', () => {
    expect(slots('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 2)).toEqual([
      '2026-10-25T00:30Z',
      '2026-10-26T01:30Z',
    ])
    expect(slots('0,30 1 * * *', 'America/New_York', '2026-10-31T12:00:00Z', 3)).toEqual([
      '2026-11-01T05:00Z',
      '2026-11-01T05:30Z',
      '2026-11-02T06:00Z',
    ])
    expect(slots('30 2 * * *', 'Europe/Berlin', '2026-10-25T00:45:00Z', 1)).toEqual(['2026-10-26T01:30Z'])
  })

  test('a schedule of every hour does not pause while a clock that was put back repeats one', () => {
    const expected = ['2026-10-25T00:30Z', '2026-10-25T01:00Z', '2026-10-25T01:30Z', '2026-10-25T02:00Z']
    expect(slots('*/30 * * * *', 'Europe/Berlin', '2026-10-25T00:00:00Z', 4)).toEqual(expected)
    expect(slots('*/30 0-23 * * *', 'Europe/Berlin', '2026-10-25T00:00:00Z', 4)).toEqual(expected)
    // By half an hour, from the middle of the hour.
    expect(slots('@hourly', 'Australia/Lord_Howe', '2026-04-04T14:00:00Z', 3)).toEqual([
      '2026-04-04T15:30Z',
      '2026-04-04T16:30Z',
      '2026-04-04T17:30Z',
    ])
  })
})

test('a null time zone is UTC', () => {
  expect(slots('0 9 * * 1-5', null, '2026-05-01T10:00:00Z', 2)).toEqual(['2026-05-04T09:00Z', '2026-05-05T09:00Z'])
})

test.each([
  ['@yearly', '2027-01-01T00:00Z'],
  ['@annually', '2027-01-01T00:00Z'],
  ['@monthly', '2026-06-01T00:00Z'],
  ['@weekly', '2026-05-10T00:00Z'],
  ['@daily', '2026-05-06T00:00Z'],
  ['@midnight', '2026-05-06T00:00Z'],
  ['@hourly', '2026-05-05T11:00Z'],
  ['@Daily', '2026-05-06T00:00Z'],
])('%s is known', (macro, first) => {
  expect(slots(macro, null, '2026-05-05T10:30:00Z', 1)).toEqual([first])
})

test('names of months and days, Sunday as 0 and as 7, and the 29th of February are known', () => {
  expect(slots('0 0 * jan SUN', null, '2026-05-05T00:00:00Z', 1)).toEqual(['2027-01-03T00:00Z'])
  expect(slots('0 0 * * 7', null, '2026-05-05T00:00:00Z', 1)).toEqual(
    slots('0 0 * * 0', null, '2026-05-05T00:00:00Z', 1),
  )
  expect(slots('0 0 29 2 *', null, '2026-05-05T00:00:00Z', 2)).toEqual(['2028-02-29T00:00Z', '2032-02-29T00:00Z'])
})

test('where both days are restricted, either will do', () => {
  expect(slots('0 0 13 * 5', null, '2026-05-05T00:00:00Z', 3)).toEqual([
    '2026-05-08T00:00Z',
    '2026-05-13T00:00Z',
    '2026-05-15T00:00Z',
  ])
})

test('a day that never comes has no next slot', () => {
  expect(slots('0 0 30 2 *', 'Europe/Berlin', '2026-05-05T00:00:00Z', 1)).toEqual([])
})

const refusal = (schedule: string, timezone: string | null = null): string => {
  try {
    parseSchedule(schedule, timezone).next(0)
  } catch (error) {
    if (error instanceof ApiError) return `${error.code} ${error.message}`
    throw error
  }
  return 'none'
}

test.each([
  ['60 * * * *', 'field 1, the minute, cannot be understood'],
  ['* 24 * * *', 'field 2, the hour, cannot be understood'],
  ['* * 0 * *', 'field 3, the day of month, cannot be understood'],
  ['* * * 13 *', 'field 4, the month, cannot be understood'],
  ['* * * * 8', 'field 5, the day of week, cannot be understood'],
  ['*/0 * * * *', 'field 1, the minute, cannot be understood'],
  ['* * * *', 'must be five fields, such as "0 9 * * 1-5", or one of the macros like @daily'],
  ['* * * * * *', 'must be five fields, such as "0 9 * * 1-5", or one of the macros like @daily'],
  ['@reboot', 'must be five fields, such as "0 9 * * 1-5", or one of the macros like @daily'],
  ['2026-01-01T00:00:00', 'must be five fields, such as "0 9 * * 1-5", or one of the macros like @daily'],
])('the schedule %s is refused with the reason', (schedule, words) => {
  expect(refusal(schedule)).toBe(`validation_failed body.schedule: ${words}`)
})

test.each(['Mars/Olympus', '+02:00', '', 'UTC+2'])('the time zone "%s" is refused', (timezone) => {
  expect(refusal('* * * * *', timezone)).toBe(
    'validation_failed body.timezone: must be the name of a time zone, such as Europe/Berlin',
  )
})

describe.each(zones)('any schedule in %s', (timezone) => {
  test('is due exactly when each reading of the clock says so', () => {
    fc.assert(
      fc.property(fields, moments(timezone), (of, from) => {
        const { next } = parseSchedule(textOf(of), timezone)
        const found: number[] = []
        for (let slot = next(from); slot !== undefined && slot <= from + DAYS; slot = next(slot)) found.push(slot)
        expect(found.map(iso), textOf(of)).toEqual(expected(of, timezone, from, from + DAYS).map(iso))
      }),
      { numRuns: 40 },
    )
  }, 120_000)

  test('after an outage has the latest of the slots it missed, and no other', () => {
    fc.assert(
      fc.property(fields, moments(timezone), fc.integer({ min: 0, max: DAYS }), (of, from, outage) => {
        const latest = parseSchedule(textOf(of), timezone).latest(from, from + outage)
        expect(iso(latest), textOf(of)).toBe(iso(expected(of, timezone, from - 1, from + outage).at(-1)))
      }),
      { numRuns: 40 },
    )
  }, 120_000)
})
