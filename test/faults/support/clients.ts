// Clients as they should be: each request has a key, is made again when nobody answers, streams are resumed from the last
// event. In charge of making runs of every kind and of writing down what they were promised and told.

import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from './cluster.ts'
import type { Accepted, History, StreamLog, WaitLog } from './history.ts'
import type { Member } from './processes.ts'
import type { Random } from './random.ts'
import { type Answer, createRequests } from './requests.ts'

type Logs = Pick<History, 'accepted' | 'keys' | 'rollbacks' | 'streams' | 'waits' | 'suspects'>

export interface Clients {
  readonly logs: Logs
  /** How many requests were made again. */
  repeated(): number
  /** Begins nothing new; resolves when every client has been told of its runs, or has waited for `patienceMs`. */
  stop(patienceMs: number): Promise<void>
}

type Kind = 'join' | 'wait' | 'stream' | 'alone' | 'double' | 'cancel'

/** Out of twenty. */
const MIX: [Kind, number][] = [
  ['join', 5],
  ['wait', 4],
  ['stream', 6],
  ['alone', 2],
  ['double', 1],
  ['cancel', 2],
]
const KINDS = MIX.flatMap(([kind, share]) => Array<Kind>(share).fill(kind))
/** Threads that clients share, each beside one of its own, and runs before a thread is left for a new one: a state that
 *  grows for ever would be a test of that. */
const SHARED_THREADS = 12
const SHARED = 0.2
const RUNS_PER_THREAD = 10

type Choose = () => Member

interface Run extends Accepted {
  key: string
}

/** Starts clients that work until they are stopped. */
export function startClients(cluster: Cluster, random: Random, options: { count: number; thinkMs: number }): Clients {
  const requests = createRequests()
  const logs: Logs = { accepted: [], keys: [], rollbacks: [], streams: [], waits: [], suspects: requests.suspects }
  const fresh = () => ({ id: randomUUID(), left: RUNS_PER_THREAD })
  const threads = Array.from({ length: SHARED_THREADS }, fresh)
  let giveUpAt = Number.POSITIVE_INFINITY
  let stopping = false
  let made = 0
  const until = () => giveUpAt

  function thread(slot: ReturnType<typeof fresh>): string {
    if (slot.left <= 0) Object.assign(slot, fresh())
    slot.left--
    return slot.id
  }

  async function client(own: Random): Promise<void> {
    const choose = () => own.pick(cluster.apis)
    const alone = fresh()
    while (!stopping) {
      const kind = own.pick(KINDS)
      const isShared = kind === 'double' || own.chance(SHARED)
      await act(kind, kind === 'alone' ? '' : thread(isShared ? own.pick(threads) : alone), own, choose)
      await sleep(own.whole(0, options.thinkMs * 2))
    }
  }

  async function act(kind: Kind, thread_id: string, own: Random, choose: Choose): Promise<void> {
    const tag = `r${made++}`
    const key = randomUUID()
    const strategy = kind === 'double' ? own.pick(['interrupt', 'rollback', 'reject']) : 'enqueue'
    if (strategy === 'rollback') logs.rollbacks.push(thread_id)
    const body = {
      assistant_id: 'steps',
      input: { done: [], tag, ms: own.pick([1, 20, 60, 250]), tokens: own.pick([0, 0, 5, 40]) },
      multitask_strategy: strategy,
      if_not_exists: 'create',
      durability: own.pick(['sync', 'async']),
      stream_mode: ['updates', 'custom'],
    }
    const run: Run = { run_id: '', thread_id, tag, strategy, key, at: 0, temporary: kind === 'alone' }
    const base = kind === 'alone' ? '/runs' : `/threads/${thread_id}/runs`
    if (kind === 'stream') return stream(run, base, body, choose)
    if (kind === 'wait' || kind === 'alone') return wait(run, `${base}/wait`, body, choose)
    const answer = await requests.insist(choose, 'POST', base, { body, headers: { 'idempotency-key': key } }, until)
    if (answer === undefined || !accept(run, answer.headers, answer.status)) return
    if (kind === 'cancel') await cancel(run, own, choose)
    if (kind !== 'double' || own.chance(0.5)) await join(run, choose)
  }

  /** Writes down that the run was promised; false when it was not. */
  function accept(run: Run, headers: Headers, status: number): boolean {
    const run_id = /\/runs\/([0-9a-f-]{36})$/.exec(headers.get('content-location') ?? '')?.[1]
    if (status !== 200 || run_id === undefined) return false
    logs.keys.push({ key: run.key, run_id })
    if (run.run_id === '') {
      const { key: _, ...accepted } = Object.assign(run, { run_id, at: Date.now() })
      logs.accepted.push(accepted)
    }
    return true
  }

  /** What an answer to a wait says, if it says anything final. */
  function outcomeOf(run: Run, { status, body }: Answer): Pick<WaitLog, 'outcome' | 'steps' | 'said'> | undefined {
    const said = `${status} ${JSON.stringify(body)?.slice(0, 200)}`
    const error = body?.__error__?.error ?? body?.code
    if (status === 404 || status === 422 || error === 'run_not_found') return { outcome: 'gone', steps: 0, said }
    if (['shutting_down', 'database_unavailable', 'overloaded', 'executor_unavailable'].includes(error))
      return undefined
    const done: string[] = body?.done ?? []
    return { outcome: 'values', steps: done.filter((item) => item.startsWith(`${run.tag}:`)).length, said }
  }

  async function told(run: Run, ask: () => Promise<Answer | undefined>): Promise<void> {
    const log: WaitLog = {
      run_id: run.run_id,
      thread_id: run.thread_id,
      tag: run.tag,
      outcome: undefined,
      steps: 0,
      said: '',
    }
    while (Date.now() < giveUpAt) {
      const answer = await ask()
      const outcome = answer && outcomeOf(run, answer)
      if (outcome !== undefined) {
        Object.assign(log, outcome)
        break
      }
      await sleep(100)
    }
    // A request that nobody ever took promised nothing.
    if (run.run_id !== '') logs.waits.push({ ...log, run_id: run.run_id })
  }

  const join = (run: Run, choose: Choose) =>
    told(run, () =>
      requests.insist(choose, 'GET', `/threads/${run.thread_id}/runs/${run.run_id}/join`, { timeoutMs: 60_000 }, until),
    )

  const wait = (run: Run, path: string, body: object, choose: Choose) =>
    told(run, async () => {
      const asked = { body, headers: { 'idempotency-key': run.key }, timeoutMs: 60_000 }
      const answer = await requests.insist(choose, 'POST', path, asked, until)
      if (answer !== undefined) accept(run, answer.headers, answer.status)
      return answer
    })

  async function stream(run: Run, base: string, body: object, choose: Choose) {
    const log: StreamLog = { run_id: '', thread_id: run.thread_id, ids: [], ends: 0, connections: 0, gone: false }
    const onEvent = ({ id, event }: { id: string | undefined; event: string }) => {
      if (event === 'end') log.ends++
      else log.ids.push(Number(id))
    }
    const onOpen = (headers: Headers) => void accept(run, headers, 200)
    while (log.ends === 0 && !log.gone && Date.now() < giveUpAt) {
      const headers: Record<string, string> =
        run.run_id === '' ? { 'idempotency-key': run.key } : { 'last-event-id': String(log.ids.at(-1) ?? -1) }
      const asked = run.run_id === '' ? { body, headers, onOpen, onEvent } : { headers, onEvent }
      const path = run.run_id === '' ? `${base}/stream` : `${base}/${run.run_id}/stream`
      log.connections++
      const answer = await requests
        .follow(choose(), run.run_id === '' ? 'POST' : 'GET', path, asked)
        .catch(() => undefined)
      if (answer !== undefined && answer.status >= 400 && answer.status < 429) log.gone = true
      if (log.ends === 0 && !log.gone) await sleep(200)
    }
    if (run.run_id !== '') logs.streams.push({ ...log, run_id: run.run_id })
  }

  async function cancel(run: Run, own: Random, choose: Choose): Promise<void> {
    const action = own.pick(['interrupt', 'rollback'])
    if (action === 'rollback') logs.rollbacks.push(run.thread_id)
    await sleep(own.whole(0, 150))
    const path = `/threads/${run.thread_id}/runs/${run.run_id}/cancel?action=${action}&wait=${own.pick(['true', 'false'])}`
    await requests.insist(choose, 'POST', path, { timeoutMs: 30_000 }, until)
  }

  const working = Promise.all(Array.from({ length: options.count }, (_, i) => client(random.fork(`client ${i}`))))
  working.catch(() => {})
  return {
    logs,
    repeated: requests.repeated,
    async stop(patienceMs) {
      stopping = true
      giveUpAt = Date.now() + patienceMs
      await working
    },
  }
}
