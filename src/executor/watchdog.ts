// The watchdog: a thread of the executor's process that sees when the thread of the graphs no longer turns, says so, and
// ends the process when the server asks or is gone. Never loads user code, and must work while that thread does not.

import { writeSync } from 'node:fs'
import { type Debugger, type InspectorNotification, Session } from 'node:inspector'
import { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { workerData } from 'node:worker_threads'
import { BEAT_MS, CONTROL_FD, type ControlReport, type ControlRequest, CURRENT } from './control.ts'

type Evaluated = Debugger.EvaluateOnCallFrameReturnType

/** How long the loop may stand before it is worth a word; then a word each second. */
const REPORT_MS = 1_000
/** What the process gets to close in order when the server is gone, and what the debugger gets to find out who blocks. */
const END_AFTER_MS = 3_000
const NAME_WITHIN_MS = 3_000

watch((workerData as { beat: Int32Array }).beat)

/** Looks at the beat of the thread of the graphs, and listens to the server. */
function watch(beat: Int32Array): void {
  let last = 0
  let stoodMs = 0
  let reportedMs = 0
  let looked = performance.now()

  setInterval(() => {
    const now = performance.now()
    // A process that was stopped, or a machine that slept, did not block: what passed unseen counts as one look.
    const passed = Math.min(now - looked, 2 * BEAT_MS)
    looked = now
    const count = Atomics.load(beat, 0)
    if (count !== last || count === 0) {
      if (reportedMs > 0) report({ type: 'blocked', ms: Math.round(stoodMs), over: true })
      last = count
      stoodMs = 0
      reportedMs = 0
      return
    }
    stoodMs += passed
    if (stoodMs < reportedMs + REPORT_MS) return
    reportedMs = stoodMs
    report({ type: 'blocked', ms: Math.round(stoodMs) })
  }, BEAT_MS)

  const control = new Socket({ fd: CONTROL_FD, readable: true, writable: true })
  control.on('error', () => {})
  control.on('close', () => setTimeout(kill, END_AFTER_MS))
  createInterface({ input: control }).on('line', (line) => {
    const request = JSON.parse(line) as ControlRequest
    if (request.type === 'end') end(stoodMs)
  })
}

function end(stoodMs: number): void {
  // A loop that turns is not what it has to end for: the server knows whose fault that is.
  if (stoodMs < 2 * BEAT_MS) {
    report({ type: 'ending', cause: 'was told to end', none: true })
    kill()
    return
  }
  const cause = `blocked its event loop for ${Math.round(stoodMs / 1_000)} s`
  setTimeout(() => {
    report({ type: 'ending', cause })
    kill()
  }, NAME_WITHIN_MS)
  nameBlocker((found) => {
    report({ type: 'ending', cause: `${cause}${found.where}`, ...found.work })
    kill()
  })
}

/** Stops the thread of the graphs where it is, and asks there what it works for. */
function nameBlocker(tell: (found: { where: string; work: { run?: number; call?: number } }) => void): void {
  const session = new Session()
  const files = new Map<string, string>()
  session.connectToMainThread()
  session.on('Debugger.scriptParsed', ({ params }: InspectorNotification<Debugger.ScriptParsedEventDataType>) => {
    files.set(params.scriptId, params.url)
  })
  session.on('Debugger.paused', ({ params }: InspectorNotification<Debugger.PausedEventDataType>) => {
    const frame = params.callFrames[0]
    if (frame === undefined) return
    const query = { callFrameId: frame.callFrameId, returnByValue: true, expression: CURRENT.expression }
    session.post('Debugger.evaluateOnCallFrame', query, (error: Error | null, answer?: Evaluated) => {
      const value: unknown = error ? undefined : answer?.result.value
      if (typeof value === 'object' && value !== null) {
        tell({ where: placeOf(params.callFrames, files), work: value })
        return
      }
      // Stopped between two pieces of work, or in one that is no run's: once more, a little later.
      session.post('Debugger.resume')
      setTimeout(() => session.post('Debugger.pause'), BEAT_MS)
    })
  })
  session.post('Debugger.enable')
  session.post('Debugger.pause')
}

// The first frame that is not Node's own: "in spin (agent.ts)". Lines are those of compiled code, and would mislead.
function placeOf(frames: Debugger.CallFrame[], files: ReadonlyMap<string, string>): string {
  const frame = frames.find(({ location }) => files.get(location.scriptId)?.startsWith('file:'))
  if (frame === undefined) return ''
  const file = files.get(frame.location.scriptId)?.split('?')[0]?.split('/').at(-1)
  return frame.functionName === '' ? ` in ${file}` : ` in ${frame.functionName} (${file})`
}

function report(what: ControlReport): void {
  try {
    writeSync(CONTROL_FD, `${JSON.stringify(what)}\n`)
  } catch {
    // Nobody reads it any more, or not fast enough.
  }
}

function kill(): void {
  process.kill(process.pid, 'SIGKILL')
}
