// The closed union of everything observable. Logs (and later metrics and traces) are readers of it; product code calls
// `observe({...})` and never a logger.

export type Observation =
  | { kind: 'server_listening'; url: string; database: string; bus: string; graphs: string[] }
  | { kind: 'worker_started'; database: string; bus: string; graphs: string[] }
  | { kind: 'server_closing'; reason: string }
  | { kind: 'request_done'; method: string; path: string; status: number; ms: number; request_id: string }
  | { kind: 'request_failed'; method: string; path: string; request_id: string; error: unknown }
  | { kind: 'graph_loaded'; graph_id: string; ms: number }
  | { kind: 'graph_failed_to_load'; graph_id: string; message: string }
  | { kind: 'executor_started'; pid: number | null; ms: number }
  | { kind: 'executor_exited'; pid: number | null; cause: string; runs: string[] }
  | { kind: 'executor_output'; stream: 'stdout' | 'stderr'; text: string }
  /** The custom app serves; `routes` is null where it gets every request. */
  | { kind: 'app_loaded'; app: string; routes: number | null; ms: number }
  | { kind: 'app_failed_to_load'; app: string; message: string }
  | { kind: 'app_exited'; app: string; pid: number | null; cause: string }
  | { kind: 'app_output'; app: string; stream: 'stdout' | 'stderr'; text: string }
  | {
      kind: 'run_created'
      run_id: string
      thread_id: string
      strategy: string
      /** What it waits for; absent where it starts at once. */
      waits?: { reason: 'not_before' | 'thread_busy' | 'no_free_slot'; position: number; behind_run_id: string | null }
    }
  | { kind: 'run_claimed'; run_id: string; thread_id: string; attempt: number; waited_ms: number }
  | {
      kind: 'run_settled'
      run_id: string
      thread_id: string
      attempt: number
      outcome: string
      ms: number
      error?: string
    }
  | { kind: 'run_lease_lost'; run_id: string; thread_id: string; attempt: number }
  /** The run's stream has reached a limit; the run goes on, most of what it still streams is not kept. */
  | {
      kind: 'run_events_capped'
      run_id: string
      thread_id: string
      attempt: number
      limit: 'bytes' | 'events'
      max: number
    }
  /** `late_ms` after its slot, a cron's run was created. */
  | { kind: 'cron_fired'; cron_id: string; slot: string; run_id: string; late_ms: number }
  /** A slot of a cron brought no run; `disabled` where none of its slots will. */
  | { kind: 'cron_not_fired'; cron_id: string; slot: string; reason: string; disabled: boolean }
  | { kind: 'runs_rescued'; run_ids: string[]; exhausted: string[] }
  /** Threads whose time was over, deleted or left with their latest checkpoints, and those where leftovers were looked for. */
  | { kind: 'threads_swept'; deleted: number; pruned: number; collected: number }
  | { kind: 'webhook_delivered'; delivery_id: string; run_id: string; attempt: number; status: number; ms: number }
  /** `again_in_s` is absent where it is not tried again. */
  | {
      kind: 'webhook_failed'
      delivery_id: string
      run_id: string
      attempt: number
      reason: string
      ms: number
      again_in_s?: number
    }
  | { kind: 'database_failed'; where: string; error: unknown }
  /** Something that needs the database works again, after `database_failed`. */
  | { kind: 'database_restored'; where: string; down_ms: number }
  | { kind: 'bus_failed'; where: string; error: unknown }
  | { kind: 'bus_restored' }
  | { kind: 'background_failed'; service: string; error: unknown }
  /** Items that a search by likeness does not find, since they were stored before the semantic index was configured. */
  | { kind: 'store_unembedded'; items: number }
  | { kind: 'failpoints_set'; names: string[] }
  | { kind: 'config_ignored'; key: string; reason: string }
  | { kind: 'event_loop_delayed'; where: string; ms: number }

/** Receives every observation; must not throw. */
export type Observe = (observation: Observation) => void

/** Says nothing, for programs that embed Heddle without logs. */
export const silent: Observe = () => {}
