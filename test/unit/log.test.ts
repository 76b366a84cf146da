import { afterEach, expect, test, vi } from 'vitest'
import { createLog, withoutPasswords } from '../../src/cli/log.ts'
import type { Observation } from '../../src/observe.ts'

const lines = (options: Partial<Parameters<typeof createLog>[0]>, ...seen: Observation[]): string[] => {
  const written: string[] = []
  const observe = createLog(
    { level: 'info', json: false, color: false, ...options },
    { write: (line) => written.push(line) },
  )
  for (const observation of seen) observe(observation)
  observe.flush()
  return written.flatMap((some) => some.split(/(?<=\n)(?=\{|\d\d:)/))
}

afterEach(() => void vi.useRealTimers())

const settled: Observation = {
  kind: 'run_settled',
  run_id: 'r',
  thread_id: 't',
  attempt: 2,
  outcome: 'success',
  ms: 12.345,
}
const failed: Observation = { ...settled, outcome: 'error', error: 'boom' }
const request = (path: string, status: number): Observation => ({
  kind: 'request_done',
  method: 'GET',
  path,
  status,
  ms: 1,
  request_id: 'q',
})

test('a line for people holds the time, level, words and fields', () => {
  expect(lines({}, settled)[0]).toMatch(/^\d\d:\d\d:\d\d info {2}run success run_id=r thread_id=t attempt=2 ms=12.3\n$/)
})

test('lines of a moment are written together, by themselves and each with its own time', () => {
  vi.useFakeTimers({ now: new Date(2026, 0, 2, 3, 4, 5, 678) })
  const written: string[] = []
  const log = createLog({ level: 'info', json: false, color: false }, { write: (lines) => written.push(lines) })
  log(settled)
  vi.setSystemTime(new Date(2026, 0, 2, 3, 4, 6, 1))
  log(request('/threads', 200))
  expect(written).toEqual([])
  vi.advanceTimersByTime(1_000)
  const fields = 'run_id=r thread_id=t attempt=2 ms=12.3'
  const first = `03:04:05 info  run success ${fields}\n03:04:06 info  GET /threads 200 ms=1 request_id=q\n`
  expect(written).toEqual([first])
  log(settled)
  vi.advanceTimersByTime(1_000)
  expect(written).toHaveLength(2)
})

test('a warning is written at once, behind what waits', () => {
  const written: string[] = []
  const log = createLog({ level: 'info', json: false, color: false }, { write: (lines) => written.push(lines) })
  log(request('/threads', 200))
  log(failed)
  expect(written).toHaveLength(1)
  expect(written[0]).toMatch(/^\S+ info {2}GET .*\n\S+ warn {2}run error .*\n$/)
})

test('a JSON line can be parsed and names the kind of observation', () => {
  const [line = ''] = lines({ json: true }, failed)
  expect(JSON.parse(line)).toEqual({
    level: 'warn',
    time: expect.stringMatching(/^\d{4}-.*Z$/),
    kind: 'run_settled',
    run_id: 'r',
    thread_id: 't',
    attempt: 2,
    outcome: 'error',
    ms: 12.3,
    error: 'boom',
    msg: 'run error',
  })
})

test('a JSON line of a request has its parts as fields, which a line for people says once', () => {
  const [line = ''] = lines({ json: true }, request('/threads', 404))
  expect(JSON.parse(line)).toMatchObject({ method: 'GET', path: '/threads', status: 404, msg: 'GET /threads 404' })
  expect(lines({}, request('/threads', 404))[0]).toMatch(/^\S+ info {2}GET \/threads 404 ms=1 request_id=q\n$/)
})

test('each line about the custom app, and each that it prints, names it', () => {
  const app = 'src/app.ts:app'
  const said = lines(
    { level: 'debug' },
    { kind: 'app_loaded', app, routes: null, ms: 1 },
    { kind: 'app_failed_to_load', app, message: 'It could not be loaded from src/app.ts:3: x.' },
    { kind: 'app_exited', app, pid: 7, cause: 'exited with code 0' },
    { kind: 'app_exited', app, pid: 7, cause: 'called process.exit(1)' },
    { kind: 'app_output', app, stream: 'stdout', text: 'hello' },
    { kind: 'app_output', app, stream: 'stderr', text: 'oh' },
  )
  expect(said.map((line) => line.slice(9))).toEqual([
    'debug custom app loaded app=src/app.ts:app routes=all ms=1\n',
    'error It could not be loaded from src/app.ts:3: x. app=src/app.ts:app\n',
    'debug custom app ended: exited with code 0 app=src/app.ts:app pid=7\n',
    'warn  custom app ended: called process.exit(1) app=src/app.ts:app pid=7\n',
    'info  hello app=src/app.ts:app\n',
    'warn  oh app=src/app.ts:app\n',
  ])
})

test('an executor that ends by itself after a reload is no warning, one that takes runs along is', () => {
  const ended: Observation = { kind: 'executor_exited', pid: 1, cause: 'exited with code 0', runs: [] }
  expect(lines({}, ended)).toEqual([])
  expect(lines({}, { ...ended, runs: ['r'] })[0]).toContain('warn  executor ended')
  expect(lines({}, { ...ended, cause: 'killed by SIGSEGV' })[0]).toContain('warn  executor ended')
})

test('the level decides what is written', () => {
  const created: Observation = { kind: 'run_created', run_id: 'r', thread_id: 't', strategy: 'enqueue' }
  expect(lines({ level: 'debug' }, created, settled, failed)).toHaveLength(3)
  expect(lines({ level: 'info' }, created, settled, failed)).toHaveLength(2)
  expect(lines({ level: 'warn' }, created, settled, failed)).toHaveLength(1)
  expect(lines({ level: 'silent' }, created, settled, failed)).toHaveLength(0)
})

test('requests are written, health probes only at debug, failures as errors', () => {
  expect(lines({}, request('/threads', 200), request('/ok', 200))).toHaveLength(1)
  expect(lines({ level: 'error' }, request('/ok', 500), request('/threads', 404))).toHaveLength(1)
})

test('an error is written with its stack and its cause', () => {
  const error = new Error('outer', { cause: new Error('inner') })
  const [line = ''] = lines({}, { kind: 'request_failed', method: 'GET', path: '/x', request_id: 'q', error })
  expect(line).toContain('error GET /x failed request_id=q error=outer cause=inner\n')
  expect(line).toContain('log.test.ts')
})

test.each([true, false])('passwords in addresses are never written (json: %s)', (json) => {
  const error = new Error('cannot reach postgres://heddle:hunter2@db:5432/x')
  const [line = ''] = lines({ json }, { kind: 'database_failed', where: 'connect to redis://:hunter2@cache', error })
  expect(line).toContain('postgres://heddle:***@db')
  expect(line).not.toContain('hunter2')
})

test('addresses without a password are left alone', () => {
  const text = 'http://127.0.0.1:2024/docs and postgres://user@db/x, mail a@b.example'
  expect(withoutPasswords(text)).toBe(text)
})

test('a webhook that is not delivered is a warning, with the reason and when it is tried again', () => {
  const about = { delivery_id: 'd', run_id: 'r', attempt: 1, ms: 5 }
  expect(lines({}, { kind: 'webhook_delivered', ...about, status: 204 })).toEqual([])
  const failed: Observation = { kind: 'webhook_failed', ...about, reason: 'The receiver answered 500.' }
  expect(lines({}, { ...failed, again_in_s: 5 })[0]).toContain(
    'warn  webhook not delivered, and tried again delivery_id=d run_id=r attempt=1 ms=5 reason=The receiver answered 500. again_in_s=5\n',
  )
  expect(lines({}, failed)[0]).toMatch(/warn {2}webhook given up .* reason=The receiver answered 500\.\n$/)
})

test('colours are only there when asked for', () => {
  expect(lines({}, settled)[0]).not.toContain('\x1b[')
  expect(lines({ color: true }, settled)[0]).toContain('\x1b[36minfo ')
})
