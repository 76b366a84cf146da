// The entry of the executor's child process. In charge of the process: its end of the pipe, its environment, and what
// happens to failures that belong to no run. Holds no database connection and reads nothing but the pipe.

import { AsyncLocalStorage } from 'node:async_hooks'
import { Socket } from 'node:net'
import { optimiseLater } from '../tiering.ts'
import { lastWords, startWatchdog } from './control.ts'
import { describe, stackOf } from './failure.ts'
import { createGuest, type Work } from './guest.ts'
import { createStreamLink } from './link.ts'
import { createImporter } from './loader.ts'
import type { GuestMessage, HostMessage } from './protocol.ts'
import { createRuntime } from './runtime.ts'

optimiseLater()

// Otherwise concurrent `messages` streams lose tokens: handlers then run on one queue for the whole process.
process.env.LANGCHAIN_CALLBACKS_BACKGROUND = 'false'

// What code works for, so that what it does outside of its graph is put down to nobody else.
const current = new AsyncLocalStorage<Work>()
const watchdog = startWatchdog(current)

const link = createStreamLink<GuestMessage, HostMessage>(new Socket({ fd: 3, readable: true, writable: true }))
const apiUrl = process.env.LANGGRAPH_API_URL
const traced = ['LANGSMITH_TRACING', 'LANGSMITH_TRACING_V2', 'LANGCHAIN_TRACING', 'LANGCHAIN_TRACING_V2'].some(
  (name) => process.env[name] === 'true',
)
const runtime = createRuntime({
  warm: !traced,
  importFile: createImporter(),
  log: (text) => guest.log(text),
  ...(apiUrl ? { apiUrl } : {}),
})
const load: typeof runtime.load = async (graphs, projectDir) => {
  const statuses = await runtime.load(graphs, projectDir)
  watchdog.watch()
  return statuses
}
const guest = createGuest(
  link,
  { ...runtime, load },
  {
    executor: `node ${process.version}`,
    pid: process.pid,
    ended: () => {
      process.off('exit', sayWhy)
      process.exit(0)
    },
    within: (work, run) => current.run(work, run),
  },
)
const sayWhy = (code: number) => lastWords(current.getStore(), `called process.exit(${code})`)

// Where Node would end the process, only the run that it belongs to ends; what belongs to none is said.
const fail = (what: string, how: string, thrown: unknown) => {
  const { error, message } = describe(thrown)
  guest.log(`${what}: ${stackOf(thrown)}`)
  guest.crash(current.getStore(), `${how}: ${error}: ${message}`)
}
process.on('unhandledRejection', (reason) => fail('Unhandled rejection', 'left a rejected promise unhandled', reason))
process.on('uncaughtException', (error) => fail('Uncaught exception', 'threw outside of its graph', error))
process.on('exit', sayWhy)
// Such signals may reach the whole process group; the parent decides when the executor ends, by closing the pipe.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
