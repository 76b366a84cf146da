// What the tests of commands share: on each stack a server with graphs of the suite's own, and on Postgres a second one on
// the same data.

import type { Client } from '@langchain/langgraph-sdk'
import { v7 } from 'uuid'
import { beforeAll, expect } from 'vitest'
import type { Gates } from '../support/gates.ts'
import { createCommandGraphs } from '../support/graphs/commands.ts'
import { createRunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type Stack, type StackName, type TestServer } from '../support/stacks.ts'

/** The answer to a command, with its status. */
export interface Answered {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: results of every kind, compared whole
  body: any
}

/** A run with what it was made of. */
export interface SeenRun {
  status: string
  multitask_strategy: string
  metadata: Record<string, unknown>
  // biome-ignore lint/suspicious/noExplicitAny: everything that a run may be given
  kwargs: any
}

export interface CommandServer {
  readonly stack: Stack
  readonly server: TestServer
  readonly client: Client
  readonly gates: Gates
  /** Another server on the same data; the embedded stack has none, and gives the first again. */
  readonly other: TestServer
  /** Sends a command and gives its answer. */
  send(threadId: string, method: string, params?: unknown, to?: TestServer): Promise<Answered>
  /** Sends a command and gives its result; fails where it is refused. */
  does(threadId: string, method: string, params?: unknown, to?: TestServer): Promise<Answered['body']>
  /** A run on the thread, to its end. */
  run(threadId: string, assistant: string, input: unknown): Promise<string>
  /** The run as it is when it has ended. */
  ended(threadId: string, runId: string): Promise<SeenRun>
  /** The ids of the interrupts that are open on the thread. */
  open(threadId: string): Promise<string[]>
}

/** Defines the suite once for each stack. */
export function eachCommandServer(suite: (server: CommandServer) => void, only?: readonly StackName[]): void {
  eachStack(
    (stack) => {
      const { graphs, gates } = createCommandGraphs()
      let server: TestServer
      let other: TestServer
      beforeAll(async () => {
        const all = { graphs: { ...createRunGraphs().graphs, ...graphs } }
        server = await stack.heddle(all)
        other = stack.name === 'embedded' ? server : await stack.heddle(all)
      })
      let id = 0
      const send: CommandServer['send'] = async (threadId, method, params = {}, to = server) => {
        const response = await to.request('POST', `/threads/${threadId}/commands`, { id: ++id, method, params })
        return { status: response.status, body: await response.json() }
      }
      const does: CommandServer['does'] = async (...asked) => {
        const { status, body } = await send(...asked)
        expect({ status, type: body.type, message: body.message }).toEqual({ status: 200, type: 'success' })
        return body.result
      }
      const ended: CommandServer['ended'] = async (threadId, runId) => {
        await server.client.runs.join(threadId, runId).catch(() => undefined)
        return (await server.client.runs.get(threadId, runId)) as unknown as SeenRun
      }
      suite({
        stack,
        gates,
        get server() {
          return server
        },
        get other() {
          return other
        },
        get client() {
          return server.client
        },
        send,
        does,
        ended,
        run: async (threadId, assistant_id, input) => {
          const { run_id } = await does(threadId, 'run.start', { assistant_id, input })
          await ended(threadId, run_id)
          return run_id
        },
        open: async (threadId) => {
          const { interrupts } = await server.client.threads.get(threadId)
          return Object.values(interrupts).flatMap((ofTask) => ofTask.map(({ id }) => id as string))
        },
      })
    },
    only ? { only } : {},
  )
}

/** The id of a thread that does not exist yet. */
export const newThread = (): string => v7()
