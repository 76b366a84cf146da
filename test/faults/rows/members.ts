// Processes of the product on a test's database, with a folder that their graph writes its ledger into and reads its gates
// from. In charge of what tests of killed processes share.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { HeddleOptions } from '../../../src/index.ts'
import type { TestServer } from '../../support/stacks.ts'
import { until } from '../../support/until.ts'
import { createMember, type Member, type Role } from '../support/processes.ts'
import type { Stage } from './stage.ts'

const GRAPH = fileURLToPath(new URL('graph.mjs', import.meta.url))
const CONFIG = fileURLToPath(new URL('langgraph.json', import.meta.url))

export const NODES = ['one', 'two', 'three', 'four', 'five', 'six']
export const LEASE_SECONDS = 2

export interface Noted {
  run_id: string
  node: string
  attempt: number
  ppid: number
}

export interface Troupe {
  /** Starts a process. */
  member(role: Role, env?: Record<string, string>): Promise<Member>
  /** A server in this process, on the same graph. */
  here(role: Role, options?: Partial<HeddleOptions>): Promise<TestServer>
  /** The input of a run that waits at nodes for gates. */
  input(hold?: Record<string, string>, more?: object): Record<string, unknown>
  open(gate: string): void
  ledger(runId: string): Noted[]
  /** Resolves when the node began in that attempt. */
  began(runId: string, node: string, attempt?: number): Promise<Noted>
}

/** The processes of the test that calls it; they end with it. */
export function createTroupe(stage: Stage): Troupe {
  const dir = mkdtempSync(join(tmpdir(), 'heddle-rows-'))
  stage.after(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, 'ledger'), '')
  const ledger = (runId: string) =>
    readFileSync(join(dir, 'ledger'), 'utf8')
      .split('\n')
      .flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Noted]))
      .filter(({ run_id }) => run_id === runId)
  let made = 0
  return {
    async member(role, env = {}) {
      const member = await createMember({
        name: `${role} ${++made}`,
        role,
        databaseUri: stage.uri(),
        config: CONFIG,
        env: { HEDDLE_LEASE_SECONDS: `${LEASE_SECONDS}`, BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS: '1', ...env },
      })
      stage.after(member.close)
      await member.start()
      return member
    },
    here: (role, options) =>
      stage.heddle({ ...options, role, executor: 'inline', graphs: { steps: `${GRAPH}:graph` } }),
    input: (hold = {}, more = {}) => ({ dir, hold, ...more }),
    open: (gate) => writeFileSync(join(dir, gate), ''),
    ledger,
    began: (runId, node, attempt = 1) =>
      until(
        `${node} begins in attempt ${attempt}`,
        () => ledger(runId).find((one) => one.node === node && one.attempt === attempt),
        20_000,
      ),
  }
}
