import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readEnvironment } from '../../src/config.ts'
import { ConfigError } from '../../src/errors.ts'
import { createFail, failpointNames, parseFailpoints } from '../../src/failpoints.ts'

test('reads actions, milliseconds and counts', () => {
  const text = 'after_claim=kill9; before_finalize=pause:500*2;before_event_append=error*3;after_claim=exit;'
  expect(parseFailpoints(text)).toEqual([
    { name: 'after_claim', action: 'kill9', ms: 0 },
    { name: 'before_finalize', action: 'pause', ms: 500, times: 2 },
    { name: 'before_event_append', action: 'error', ms: 0, times: 3 },
    { name: 'after_claim', action: 'exit', ms: 0 },
  ])
  expect(parseFailpoints('')).toEqual([])
})

test.each([
  ['after_claim', 'holds "after_claim": write name=action'],
  ['after_claim=boom', 'holds "after_claim=boom": write name=action'],
  ['after_claim=pause', 'holds "after_claim=pause": write name=action'],
  ['after_claim=kill9:5', 'holds "after_claim=kill9:5": write name=action'],
  ['after_claim=kill9*0', 'holds "after_claim=kill9*0": write name=action'],
  ['after_lunch=kill9', 'names a failpoint "after_lunch" that does not exist: there are after_insert_before_reply, '],
])('%s stops the start with words that name the key', (text, words) => {
  const read = () => readEnvironment({ HEDDLE_FAILPOINTS: text })
  expect(read).toThrow(ConfigError)
  expect(read).toThrow(`The environment variable HEDDLE_FAILPOINTS ${words}`)
})

test('without failpoints there is no function to call', () => {
  expect(createFail(readEnvironment({}).server.failpoints)).toBeUndefined()
})

test('an action happens at its place only, and as often as it says', async () => {
  const ended: string[] = []
  const fail = createFail(
    parseFailpoints('after_claim=kill9*2;before_finalize=exit;before_event_append=error*1'),
    (how) => ended.push(how),
  )
  await fail?.('after_checkpoint_commit')
  expect(ended).toEqual([])
  for (let i = 0; i < 3; i++) await fail?.('after_claim')
  expect(ended).toEqual(['kill9', 'kill9'])
  for (let i = 0; i < 3; i++) await fail?.('before_finalize')
  expect(ended).toEqual(['kill9', 'kill9', 'exit', 'exit', 'exit'])
  await expect(fail?.('before_event_append')).rejects.toMatchObject({ code: 'database_unavailable' })
  await expect(fail?.('before_event_append')).resolves.toBeUndefined()
})

test('two servers count for themselves', async () => {
  const failpoints = parseFailpoints('after_claim=error*1')
  await expect(createFail(failpoints)?.('after_claim')).rejects.toThrow('after_claim was hit')
  await expect(createFail(failpoints)?.('after_claim')).rejects.toThrow('after_claim was hit')
})

test('a pause waits as long as it says', async () => {
  const began = performance.now()
  await createFail(parseFailpoints('before_finalize=pause:60'))?.('before_finalize')
  expect(performance.now() - began).toBeGreaterThan(55)
})

test.each(failpointNames)('%s is in docs/failpoints.md', (name) => {
  expect(readFileSync(new URL('../../docs/failpoints.md', import.meta.url), 'utf8')).toContain(`| \`${name}\` |`)
})
