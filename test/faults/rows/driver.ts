// Faults between the server and its driver for Postgres, of the two kinds that a network makes: a statement that was not
// done, and one that was done and never answered. In charge of doing that to the connections that ask for it by their
// name and to no others; every fault is real, on the wire or in the server.

import pg from 'pg'
import { afterEach } from 'vitest'

/** What happens to a statement: refused with a code, or its connection breaks before it is sent or after it was done. */
export type Fault = { refuse: string } | 'lost' | 'done and lost'

export interface FaultyDriver {
  /** The address under which faults happen. */
  through(uri: string): string
  /** From now on, asked about every statement; without it, there are no faults. */
  faults(choose?: (text: string) => Fault | undefined): void
  /** How many there were, by kind. */
  readonly counts: Record<string, number>
}

const NAME = 'faulty'

type Callback = (error: unknown, result?: unknown) => void
type Query = (this: pg.Client, config: unknown, values?: unknown, callback?: Callback) => Promise<unknown> | undefined

/** Takes hold of the driver, for as long as the test file runs. */
export function createFaultyDriver(): FaultyDriver {
  const prototype = pg.Client.prototype as unknown as { query: Query }
  const query = prototype.query
  const counts: Record<string, number> = {}
  let choose: ((text: string) => Fault | undefined) | undefined
  prototype.query = function (config, values, callback) {
    const text = typeof config === 'string' ? config : (config as { text?: string }).text
    const isFaulty = text !== undefined && nameOf(this) === NAME
    const fault = isFaulty ? choose?.(text) : undefined
    if (fault === undefined) return query.call(this, config, values, callback)
    const kind = typeof fault === 'string' ? fault : fault.refuse
    counts[kind] = (counts[kind] ?? 0) + 1
    const result = suffer(
      this,
      fault,
      () => query.call(this, config, values) as Promise<unknown>,
      (text) => query.call(this, text) as Promise<unknown>,
    )
    if (callback === undefined) return result
    result.then((done) => callback(undefined, done), callback)
    return undefined
  }
  afterEach(() => {
    choose = undefined
    for (const kind of Object.keys(counts)) delete counts[kind]
  })
  return {
    counts,
    through: (uri) => `${uri}?application_name=${NAME}`,
    faults: (chosen) => {
      choose = chosen
    },
  }
}

async function suffer(
  client: pg.Client,
  fault: Fault,
  execute: () => Promise<unknown>,
  instead: (text: string) => Promise<unknown>,
): Promise<unknown> {
  const cut = () => (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
  if (fault === 'lost') {
    cut()
    throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
  }
  if (fault === 'done and lost') {
    await execute()
    cut()
    throw new Error('Query read timeout')
  }
  return instead(`do $$ begin raise exception 'refused by a test' using errcode = '${fault.refuse}'; end $$`)
}

const nameOf = (client: pg.Client): unknown =>
  (client as unknown as { connectionParameters: { application_name?: string } }).connectionParameters.application_name
