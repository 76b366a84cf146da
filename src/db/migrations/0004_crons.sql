-- A cron says when runs of an assistant are created. `next_run_date` is the slot that comes, null where none will; slots are
-- decided in order, each once.
create table crons (
  cron_id uuid primary key,
  assistant_id uuid not null,
  -- null: every run has a thread of its own
  thread_id uuid references threads on delete cascade,
  user_id text,
  schedule text not null,
  timezone text,
  end_time timestamptz,
  on_run_completed text check (on_run_completed in ('delete', 'keep')),
  payload json not null,
  metadata jsonb not null,
  enabled boolean not null,
  next_run_date timestamptz,
  -- the last slot that was decided, whether or not it brought a run
  last_slot timestamptz,
  -- how many slots in a row brought no run because it could not be created, and why the last one did not
  failures integer not null default 0,
  last_error text,
  -- why the server disabled it
  disabled_reason text,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  check ((thread_id is null) = (on_run_completed is not null)),
  check (next_run_date is null or enabled),
  check (next_run_date > last_slot),
  check (disabled_reason is null or not enabled)
);
create index crons_due on crons (next_run_date) where next_run_date is not null;
create index crons_thread on crons (thread_id) where thread_id is not null;
create index crons_assistant on crons (assistant_id);
create index crons_metadata on crons using gin (metadata jsonb_path_ops);
create index crons_created on crons (created_at desc, cron_id);

-- The run of each slot, written in the transaction that creates it. Kept for longer than any process could be behind; the
-- runs themselves may go before.
create table cron_runs (
  cron_id uuid not null references crons on delete cascade,
  slot timestamptz not null,
  run_id uuid not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (cron_id, slot)
);
create index cron_runs_created on cron_runs using brin (created_at);
