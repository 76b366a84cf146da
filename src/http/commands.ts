// The route of the thread protocol's commands. In charge of nothing but the request's headers becoming config: what a
// command does and how it is answered is the dispatcher's, which other transports call, too.

import { sendCommand } from '../contract/commands.ts'
import { createCommands } from '../runs/commands.ts'
import type { HttpDeps } from './deps.ts'
import { reply } from './reply.ts'
import { on, type Route } from './route.ts'
import { fromHeaders } from './runs.ts'

/** The route of commands. */
export function commandRoutes(deps: HttpDeps): Route[] {
  const commands = createCommands(deps)
  return [
    on(sendCommand, async ({ params, body, visible, headers }) => {
      const caller = { visible, configurable: fromHeaders(headers) }
      const { status, response } = await commands.dispatch(caller, params.thread_id, body)
      return reply(response, { status })
    }),
  ]
}
