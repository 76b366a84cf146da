// What the tests of assistants, threads, state and store share: one server with the graph `notes` on each stack.

import type { Client } from '@langchain/langgraph-sdk'
import { beforeAll } from 'vitest'
import { notes } from '../support/graphs/notes.ts'
import { eachStack, type TestServer } from '../support/stacks.ts'

/** The server of a suite; there once its tests run. */
export interface NotesServer {
  readonly client: Client
  fetch(path: string, request?: { method?: string; json?: unknown }): Promise<Response>
}

/** Defines the suite once for each stack, against a server that serves `notes`. */
export function eachNotesServer(suite: (server: NotesServer) => void): void {
  eachStack((stack) => {
    let server: TestServer
    beforeAll(async () => {
      server = await stack.heddle({ graphs: { notes } })
    })
    suite({
      get client() {
        return server.client
      },
      fetch: (path, { method = 'GET', json } = {}) => server.request(method, path, json),
    })
  })
}

/** How a client call failed: the HTTP status with the error body. Fails when it did not. */
export async function failure(call: Promise<unknown>): Promise<{ status: number; code: string; detail: string }> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  const { status, text, message } = (error ?? {}) as { status?: number; text?: string; message?: string }
  const body = text ?? message?.slice(message.indexOf('{'))
  if (status === undefined || body === undefined)
    throw new Error('the call did not fail with an answer', { cause: error })
  return { status, ...(JSON.parse(body) as { code: string; detail: string }) }
}
