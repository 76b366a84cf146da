// What the commands of the thread protocol share: who sends them, what they work with, what one comes to, and why one is
// refused. Does nothing by itself.

import type { CommandErrorCode } from '../contract/commands.ts'
import type { Db } from '../db/db.ts'
import type { Sql } from '../db/sql.ts'
import type { Executor } from '../executor/executor.ts'
import type { Registry } from '../graph/registry.ts'
import type { Engine } from './engine.ts'

/** Who sends commands. */
export interface Caller {
  visible: Sql
  /** Values for the `config.configurable` of runs: from headers, and of who is asking. */
  configurable: Record<string, unknown>
}

export interface CommandDeps {
  db: Db
  executor: Pick<Executor, 'call'>
  registry: Registry
  engine: Pick<Engine, 'create'>
}

/** What a command came to, and where the thread's log ended when it was applied. */
export interface Applied {
  result: Record<string, unknown>
  applied_through: number
}

/** Refuses a command: the code for programs, one sentence for people. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly code: CommandErrorCode
  constructor(code: CommandErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

/** There is no such thread, or not for this caller, or nothing has run on it. */
export const noRun = (threadId: string): CommandError =>
  new CommandError('no_such_run', `Nothing has run on the thread ${threadId}: begin with run.start.`)
