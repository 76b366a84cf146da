// Statements on webhook deliveries: the outbox. In charge of one row for each run that ended and had named a webhook, written in
// the statement that ends it, and of whose turn it is to deliver it. What comes back from a receiver is judged by the caller.

import type { Delivery } from '../contract/webhooks.ts'
import { messageOf } from '../errors.ts'
import { type Db, one } from './db.ts'
import { parseJson } from './json.ts'
import { names, openRun, openValue } from './seal.ts'
import { type Sql, sql } from './sql.ts'

const time = (column: Sql): Sql => sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')`

/** The host of deliveries to the custom app. */
export const APP_HOST = ''

/** A path of the custom app is stored as a URL without a host, so that no path looks like one. */
const stored = (webhook: Sql): Sql =>
  sql`case when ${webhook} like '/%' then 'app://' || ${webhook} else ${webhook} end`
const shown = (url: Sql): Sql => sql`case when ${url} like 'app:///%' then substr(${url}, 7) else ${url} end`

/** Puts what ended runs owe into the outbox; a part of the statement that ends them. `ended` is a relation of these runs with
 *  all columns of `runs` as they are now. `values` is JSON that may refer to `r`, the run, and to `t`, its thread as it was
 *  before the statement. */
export const owe = (ended: Sql, values: Sql = sql`t."values"`): Sql => sql`insert into webhook_deliveries
    (delivery_id, run_id, thread_id, thread_metadata, url, body)
  select gen_random_uuid(), r.run_id, r.thread_id, t.metadata, ${stored(sql`(r.kwargs ->> 'webhook')`)}, left(row_to_json(body)::text, -1)
    || case when r.error is null then '' else ',"error":' || r.error::text end || '}'
  from ${ended} as r join threads t on t.thread_id = r.thread_id cross join lateral (
    select r.run_id, r.thread_id, r.assistant_id, ${time(sql`r.created_at`)} as created_at,
      ${time(sql`r.updated_at`)} as updated_at, r.status, r.metadata, r.kwargs, r.multitask_strategy, r.cancel_reason,
      ${time(sql`r.started_at`)} as run_started_at, ${time(sql`r.ended_at`)} as run_ended_at, ${values} as "values") as body
  where r.kwargs ->> 'webhook' is not null on conflict (run_id) do nothing`

/** A delivery that is this process's to try now. */
export interface ClaimedDelivery {
  delivery_id: string
  run_id: string
  url: string
  host: string
  /** JSON text. */
  body: string
  /** Of the body, in bytes. */
  size: number
  /** This one counted. */
  attempts: number
}

/** How much may be claimed. */
export interface Room {
  deliveries: number
  /** Of bodies; the last one may go beyond. */
  bytes: number
  perHost: number
  /** Hosts that have room for another number than `perHost`. */
  hosts: ReadonlyMap<string, number>
}

/** Claims deliveries that are due, the hosts in turn, charging the try; `claim` names the claimer of these. They are due again
 *  when the lease has ended. The waiting rows of one host are never looked through: what one claim costs depends on how many
 *  hosts there are. */
export async function claim(db: Db, claim: string, leaseSeconds: number, room: Room): Promise<ClaimedDelivery[]> {
  const rows = await db.rows<ClaimedDelivery>(claimQuery(claim, leaseSeconds, room))
  if (db.seal === undefined) return rows.map((row) => ({ ...row, body: asSent(row.body) }))
  const readable: ClaimedDelivery[] = []
  for (const row of rows) {
    try {
      readable.push({ ...row, body: opened(db, row.body) })
    } catch (error) {
      // One that was tampered with must not hold up the others.
      const failed = { status: 'failed', in_seconds: 0, last_status: null, last_error: messageOf(error) } as const
      await tried(db, { delivery_id: row.delivery_id, claim }, failed)
    }
  }
  return readable
}

/** The statement of `claim`, whose plan a test looks at. */
export const claimQuery = (claim: string, leaseSeconds: number, room: Room): Sql => sql`with recursive
    hosts as (select min(host) as host from webhook_deliveries where status = 'pending'
      union all select (select min(d.host) from webhook_deliveries d where d.status = 'pending' and d.host > hosts.host)
      from hosts where hosts.host is not null),
    waiting as (select d.*, sum(d.size) over (order by d.turn, d.due_at, d.delivery_id) - d.size as before
      from hosts left join unnest(${[...room.hosts.keys()]}::text[], ${[...room.hosts.values()]}::int[])
        as known(host, room) using (host)
      cross join lateral (select delivery_id, due_at, size, row_number() over (order by due_at, delivery_id) as turn
        from webhook_deliveries where host = hosts.host and status = 'pending' and due_at <= now()
        order by due_at, delivery_id limit coalesce(known.room, ${room.perHost}::int)) as d),
    next as (select d.delivery_id from webhook_deliveries d join waiting using (delivery_id)
      where d.status = 'pending' and d.due_at <= now() and waiting.before < ${room.bytes}::bigint
      order by waiting.turn, waiting.due_at limit ${room.deliveries}::int for update of d skip locked)
    update webhook_deliveries d set claim = ${claim}, attempts = d.attempts + 1, last_attempt_at = clock_timestamp(),
      due_at = clock_timestamp() + make_interval(secs => ${leaseSeconds}::float8)
    where d.delivery_id = any(array(select delivery_id from next))
    returning d.delivery_id, d.run_id, ${shown(sql`d.url`)} as url, d.host, d.body, d.size, d.attempts`

/** What json.ts had to escape for Postgres comes out as it was. */
const asSent = (body: string): string => (/\uE000|\\ue000/.test(body) ? JSON.stringify(parseJson(body)) : body)

/** The body with what it holds of the run and of its thread, encrypted as in their rows, as it was. */
function opened(db: Db, body: string): string {
  const row = parseJson(body) as { run_id: string; thread_id: string; kwargs: Record<string, unknown>; values: unknown }
  return JSON.stringify({
    ...openRun(db, row),
    values: openValue(db, row.values, names.thread(row.thread_id, 'values')),
  })
}

/** What became of a try. */
export interface Tried {
  status: 'pending' | 'delivered' | 'failed'
  /** Of a pending one: when it is tried again. */
  in_seconds: number
  /** The HTTP status of the answer, where there was one. */
  last_status: number | null
  /** A sentence, where it was not delivered. */
  last_error: string | null
}

/** Records what became of a try; nothing where it is no longer the claimer's. */
export const tried = (
  db: Db,
  of: { delivery_id: string; claim: string },
  { status, in_seconds, last_status, last_error }: Tried,
): Promise<unknown> =>
  db.rows(sql`update webhook_deliveries set status = ${status}, claim = null, last_status = ${last_status}::int,
      last_error = ${last_error}, due_at = clock_timestamp() + make_interval(secs => ${in_seconds}::float8),
      ended_at = case when ${status} <> 'pending' then clock_timestamp() end
    where delivery_id = ${of.delivery_id} and claim = ${of.claim}`)

/** Gives a claimed delivery back untried. */
export const release = (db: Db, of: { delivery_id: string; claim: string }): Promise<unknown> =>
  db.rows(sql`update webhook_deliveries set claim = null, attempts = attempts - 1, due_at = clock_timestamp()
    where delivery_id = ${of.delivery_id} and claim = ${of.claim}`)

const wire = sql`d.delivery_id, d.run_id, d.thread_id, ${shown(sql`d.url`)} as url, d.status, d.attempts, d.created_at, d.last_attempt_at,
  case when d.status = 'pending' then d.due_at end as next_attempt_at, d.ended_at, d.last_status, d.last_error`

/** The thread may be gone: its metadata of then stands for it. */
const seen = (
  visible: Sql,
): Sql => sql`exists (select 1 from (select d.thread_id, d.thread_metadata as metadata) as threads
  where ${visible})`

/** The deliveries of a run. */
export const list = (db: Db, runId: string, visible: Sql): Promise<Delivery[]> =>
  db.rows(sql`select ${wire} from webhook_deliveries d where d.run_id = ${runId} and ${seen(visible)}`)

/** Has a delivery tried again from its beginning, whatever became of it; undefined where there is none. A try that is under
 *  way counts no more. */
export const replay = (db: Db, deliveryId: string, visible: Sql): Promise<Delivery | undefined> =>
  one(
    db.rows(sql`update webhook_deliveries d set status = 'pending', attempts = 0, due_at = clock_timestamp(), claim = null,
        ended_at = null
      where d.delivery_id = ${deliveryId} and ${seen(visible)} returning ${wire}`),
  )

/** Forgets deliveries that ended long ago; gives how many. */
export const prune = async (db: Db, seconds: number, limit: number): Promise<number> =>
  (
    await db.rows(sql`delete from webhook_deliveries where delivery_id in (select delivery_id from webhook_deliveries
      where status <> 'pending' and ended_at < clock_timestamp() - make_interval(secs => ${seconds}::float8) limit ${limit})
      returning 1`)
  ).length
