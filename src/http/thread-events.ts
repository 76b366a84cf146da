// The routes of the thread protocol's events.

import * as contract from '../contract/thread-events.ts'
import * as threads from '../db/threads.ts'
import { createCommands } from '../runs/commands.ts'
import type { HttpDeps } from './deps.ts'
import { on, type Route, socket, sse } from './route.ts'
import { fromHeaders } from './runs.ts'
import { serveThreadSocket } from './thread-socket.ts'

/** Over server-sent events and over WebSockets. */
export function threadEventRoutes(deps: HttpDeps): Route[] {
  const { db, engine, observe } = deps
  const commands = createCommands(deps)
  return [
    on(contract.streamThreadEvents, async ({ params, body, visible }) => {
      await threads.get(db, params.thread_id, visible)
      const { since, ...wanted } = body
      const session = engine.session(params.thread_id, visible)
      session.subscribe('events', wanted, { since })
      return sse(session.frames())
    }),
    // A thread that is not there is no mistake: the command that makes it comes over this connection.
    on(contract.openThreadSocket, ({ params: { thread_id }, visible, headers, requestId }) => {
      const path = `/threads/${thread_id}/stream/events`
      const caller = { visible, configurable: fromHeaders(headers) }
      const session = engine.session(thread_id, visible, { waits: true })
      return socket((opened) =>
        serveThreadSocket(opened, {
          session,
          dispatch: async (command) => (await commands.dispatch(caller, thread_id, command)).response,
          failed: (error) => observe({ kind: 'request_failed', method: 'GET', path, request_id: requestId, error }),
        }),
      )
    }),
  ]
}
