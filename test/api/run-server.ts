// What the tests of runs share: on each stack a server with a set of graphs of the suite's own.

import type { Client } from '@langchain/langgraph-sdk'
import { beforeAll } from 'vitest'
import type { HeddleOptions } from '../../src/index.ts'
import { type EventReader, readEvents, type SeenEvent } from '../support/events.ts'
import { createRunGraphs, type RunGraphs } from '../support/graphs/runs.ts'
import { eachStack, type Stack, type StackName, type TestServer } from '../support/stacks.ts'

/** The server of a suite with its graphs; there once its tests run. */
export interface RunServer extends RunGraphs {
  readonly stack: Stack
  readonly server: TestServer
  readonly client: Client
  request: TestServer['request']
  /** A new thread. */
  thread(): Promise<string>
  /** Starts a run on the thread and reads its events; without a thread, a stateless one. */
  stream(threadId: string | null, body: Record<string, unknown>, query?: string): Promise<EventReader>
  /** Follows a run. */
  join(threadId: string, runId: string, options?: { from?: string; query?: string }): Promise<EventReader>
  /** The run as it is when it has ended. */
  ended(threadId: string, runId: string): Promise<Awaited<ReturnType<Client['runs']['get']>>>
}

/** Defines the suite once for each stack. */
export function eachRunServer(
  suite: (server: RunServer) => void,
  options: { config?: HeddleOptions['config']; only?: readonly StackName[] } = {},
): void {
  eachStack(
    (stack) => {
      const graphs = createRunGraphs()
      let server: TestServer
      beforeAll(async () => {
        server = await stack.heddle({
          graphs: graphs.graphs,
          ...(options.config !== undefined && { config: options.config }),
        })
      })
      suite({
        ...graphs,
        stack,
        get server() {
          return server
        },
        get client() {
          return server.client
        },
        request: (...asked) => server.request(...asked),
        thread: async () => (await server.client.threads.create()).thread_id,
        stream: async (threadId, body, query = '') => {
          const path = threadId === null ? '/runs/stream' : `/threads/${threadId}/runs/stream`
          return readEvents(await server.request('POST', path + query, body))
        },
        join: async (threadId, runId, { from, query = '' } = {}) => {
          const headers: Record<string, string> = from === undefined ? {} : { 'last-event-id': from }
          const path = `/threads/${threadId}/runs/${runId}/stream${query}`
          return readEvents(await server.request('GET', path, undefined, headers))
        },
        ended: async (threadId, runId) => {
          await server.client.runs.join(threadId, runId)
          return server.client.runs.get(threadId, runId)
        },
      })
    },
    options.only === undefined ? {} : { only: options.only },
  )
}

/** What an event is called and says, without the ids. */
export const named = (events: readonly SeenEvent[]): [name: string, data: unknown][] =>
  events.map(({ event, data }) => [event, data])

/** The ids of events as numbers. */
export const idsOf = (events: readonly SeenEvent[]): number[] => events.map(({ id }) => Number(id))
