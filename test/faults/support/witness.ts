// The witness in the database: triggers that write down every change of a run's status and of a thread's holder, and who
// wrote events and checkpoints. In charge of what the tables themselves forget; the product knows nothing of it.

import type { Cluster } from './cluster.ts'
import type { EventRow, Hold, StatusChange, Write } from './history.ts'

/** Times are milliseconds since 1970; `n` orders what happened on one thread, since its lock is held meanwhile. */
const SCRIPT = `
create schema witness;
create sequence witness.n;
create table witness.statuses (n bigint default nextval('witness.n'), at float8 default extract(epoch from clock_timestamp()) * 1000,
  run_id uuid, thread_id uuid, "from" text, "to" text, attempt int);
create table witness.holds (n bigint default nextval('witness.n'), at float8 default extract(epoch from clock_timestamp()) * 1000,
  tx bigint default pg_current_xact_id()::text::bigint, thread_id uuid, "from" uuid, "to" uuid, epoch bigint);
create table witness.writes (n bigint default nextval('witness.n'), at float8 default extract(epoch from clock_timestamp()) * 1000,
  tx bigint default pg_current_xact_id()::text::bigint, kind text, thread_id uuid, run_id uuid, step int);

create function witness.status() returns trigger language plpgsql as $$ begin
  if tg_op = 'DELETE' then
    insert into witness.statuses (run_id, thread_id, "from", "to", attempt)
      values (old.run_id, old.thread_id, old.status, 'removed', old.attempt);
  elsif tg_op = 'INSERT' then
    insert into witness.statuses (run_id, thread_id, "from", "to", attempt)
      values (new.run_id, new.thread_id, null, new.status, new.attempt);
  elsif new.status is distinct from old.status then
    insert into witness.statuses (run_id, thread_id, "from", "to", attempt)
      values (new.run_id, new.thread_id, old.status, new.status, new.attempt);
  end if;
  return null;
end $$;
create trigger witness after insert or delete or update of status on runs for each row execute function witness.status();

create function witness.hold() returns trigger language plpgsql as $$ begin
  if tg_op = 'INSERT' then
    insert into witness.holds (thread_id, "from", "to", epoch) values (new.thread_id, null, new.held_by, new.epoch);
  elsif new.held_by is distinct from old.held_by or new.epoch <> old.epoch then
    insert into witness.holds (thread_id, "from", "to", epoch) values (new.thread_id, old.held_by, new.held_by, new.epoch);
  end if;
  return null;
end $$;
create trigger witness after insert or update of held_by, epoch on threads for each row execute function witness.hold();

create function witness.event() returns trigger language plpgsql as $$ begin
  insert into witness.writes (kind, thread_id, run_id) values ('events', new.thread_id, new.run_id);
  return null;
end $$;
create trigger witness after insert on events for each row execute function witness.event();

create function witness.checkpoint() returns trigger language plpgsql as $$ begin
  insert into witness.writes (kind, thread_id, run_id, step) values ('checkpoint', new.thread_id, new.run_id,
    case when new.checkpoint_ns = '' and new.metadata ->> 'source' = 'loop' then (new.metadata ->> 'step')::int end);
  return null;
end $$;
create trigger witness after insert or update on checkpoints for each row when (new.run_id is not null)
  execute function witness.checkpoint();
`

/** Begins to watch; call it before there are runs. */
export async function installWitness(cluster: Cluster): Promise<void> {
  await cluster.query(SCRIPT)
}

/** What was seen, and what the tables hold now. */
export async function readWitness(cluster: Cluster): Promise<{
  statuses: StatusChange[]
  holds: Hold[]
  writes: Write[]
  events: EventRow[]
}> {
  const read = <T>(table: string) => cluster.query<T>(`select to_jsonb(t) as row from ${table} t order by n`)
  const rows = async <T>(table: string) => (await read<{ row: T }>(table)).map(({ row }) => row)
  return {
    statuses: await rows<StatusChange>('witness.statuses'),
    holds: await rows<Hold>('witness.holds'),
    writes: await rows<Write>('witness.writes'),
    events: await cluster.query<EventRow>(
      `select thread_id, first_seq::int, last_seq::int, run_id, batch from events order by thread_id, first_seq`,
    ),
  }
}
