// The entry of the executor's child process. In charge of the process: its end of the pipe, its environment, and what
// happens to failures that belong to no run. Holds no database connection and reads nothing but the pipe.

import { Socket } from 'node:net'
import { stackOf } from './failure.ts'
import { createGuest } from './guest.ts'
import { createStreamLink } from './link.ts'
import { createImporter } from './loader.ts'
import type { GuestMessage, HostMessage } from './protocol.ts'
import { createRuntime } from './runtime.ts'

// Otherwise concurrent `messages` streams lose tokens: handlers then run on one queue for the whole process.
process.env.LANGCHAIN_CALLBACKS_BACKGROUND = 'false'

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
const guest = createGuest(link, runtime, {
  executor: `node ${process.version}`,
  pid: process.pid,
  ended: () => process.exit(0),
})

// A promise nobody waited for must not take the other runs down.
process.on('unhandledRejection', (reason) => guest.log(`Unhandled rejection: ${stackOf(reason)}`))
// Such signals may reach the whole process group; the parent decides when the executor ends, by closing the pipe.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
