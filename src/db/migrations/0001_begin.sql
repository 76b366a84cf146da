-- Everything that lasts. Free JSON whose text must come back as it was sent is json; what is searched is jsonb.
-- A thread is shown as busy while a pending or running run exists on it: that is derived, never stored, so it cannot be stale.

create table assistants (
  assistant_id uuid primary key,
  graph_id text not null,
  name text not null,
  description text,
  config json not null,
  context json,
  metadata jsonb not null,
  version integer not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
create index assistants_graph on assistants (graph_id);
create index assistants_metadata on assistants using gin (metadata jsonb_path_ops);
create index assistants_created on assistants (created_at desc, assistant_id);

create table assistant_versions (
  assistant_id uuid not null references assistants on delete cascade,
  version integer not null,
  graph_id text not null,
  name text not null,
  description text,
  config json not null,
  context json,
  metadata jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (assistant_id, version)
);

create table threads (
  thread_id uuid primary key,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  -- null until the thread has a checkpoint
  state_updated_at timestamptz,
  metadata jsonb not null,
  config json not null default '{}',
  -- how the last run left the thread; 'busy' is derived
  settled_status text not null default 'idle' check (settled_status in ('idle', 'interrupted', 'error')),
  "values" json,
  interrupts json not null default '{}',
  error json,
  -- the running run, and a number that grows at every change of holder: the fence of all its writes
  held_by uuid,
  epoch bigint not null default 0,
  -- the last event id given out, kept when events are pruned
  last_seq bigint not null default 0,
  ttl_strategy text check (ttl_strategy in ('delete', 'keep_latest')),
  ttl_minutes double precision,
  expires_at timestamptz,
  -- a temporary thread whose run has ended: invisible, and deleted a little later so that late readers see the end
  doomed_at timestamptz
);
create index threads_created on threads (created_at desc, thread_id) where doomed_at is null;
create index threads_updated on threads (updated_at desc, thread_id) where doomed_at is null;
create index threads_metadata on threads using gin (metadata jsonb_path_ops);
create index threads_doomed on threads (doomed_at) where doomed_at is not null;
create index threads_expiring on threads (expires_at) where expires_at is not null;

-- One row per worker process: its runs are its own while this lease lasts.
create table workers (
  worker_id uuid primary key,
  lease_until timestamptz not null,
  started_at timestamptz not null default clock_timestamp()
);

create table runs (
  run_id uuid primary key,
  -- the order of creation: given out under the lock of the thread, so waiting runs start in it
  ordinal bigint not null generated always as identity,
  thread_id uuid not null references threads on delete cascade,
  assistant_id uuid not null,
  graph_id text not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  status text not null check (status in ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
  metadata jsonb not null,
  kwargs json not null,
  multitask_strategy text not null check (multitask_strategy in ('reject', 'enqueue', 'interrupt', 'rollback')),
  available_at timestamptz not null default clock_timestamp(),
  attempt integer not null default 0,
  worker_id uuid,
  started_at timestamptz,
  ended_at timestamptz,
  -- a wish to stop the run, kept until it has ended
  cancel_action text check (cancel_action in ('interrupt', 'rollback')),
  cancel_reason text,
  error json,
  -- delete the thread when the run ends (stateless runs)
  temporary boolean not null default false,
  check ((status = 'running') = (worker_id is not null))
) with (fillfactor = 80);
create unique index runs_one_running on runs (thread_id) where status = 'running';
create index runs_waiting on runs (ordinal) where status = 'pending';
create index runs_active on runs (thread_id, ordinal) where status in ('pending', 'running');
create index runs_held on runs (worker_id) where status = 'running';
create index runs_thread on runs (thread_id, ordinal desc);

-- The event log: one row holds the events of a run that one commit brought, a line each: name, tab, data as JSON.
create table events (
  thread_id uuid not null references threads on delete cascade,
  first_seq bigint not null,
  last_seq bigint not null check (last_seq >= first_seq),
  run_id uuid not null,
  created_at timestamptz not null default clock_timestamp(),
  batch text not null,
  primary key (thread_id, first_seq)
);
create index events_run on events (run_id, first_seq);
create index events_created on events using brin (created_at);

create table checkpoints (
  thread_id uuid not null references threads on delete cascade,
  checkpoint_ns text not null,
  checkpoint_id text not null,
  parent_checkpoint_id text,
  run_id uuid,
  checkpoint json not null,
  metadata jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (thread_id, checkpoint_ns, checkpoint_id)
);
create index checkpoints_run on checkpoints (run_id) where run_id is not null;

-- A channel's value once per version; versions are unique over forks.
create table checkpoint_values (
  thread_id uuid not null references threads on delete cascade,
  checkpoint_ns text not null,
  channel text not null,
  version text not null,
  type text not null,
  bytes bytea not null,
  primary key (thread_id, checkpoint_ns, channel, version)
);

create table checkpoint_writes (
  thread_id uuid not null references threads on delete cascade,
  checkpoint_ns text not null,
  checkpoint_id text not null,
  task_id text not null,
  idx integer not null,
  channel text not null,
  task_path text not null,
  type text not null,
  bytes bytea not null,
  -- who wrote it, and what of another run it replaced: a run that is rolled back may have written under older checkpoints
  run_id uuid,
  replaced_run_id uuid,
  replaced_channel text,
  replaced_type text,
  replaced_bytes bytea,
  primary key (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

create table idempotency_keys (
  key text primary key,
  body_hash text not null,
  run_ids uuid[] not null,
  created_at timestamptz not null default clock_timestamp()
);
create index idempotency_keys_created on idempotency_keys (created_at);

create table store_items (
  namespace text[] not null,
  key text not null,
  value jsonb not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  ttl_minutes double precision,
  expires_at timestamptz,
  primary key (namespace, key)
);
create index store_items_namespace on store_items using gin (namespace);
create index store_items_updated on store_items (updated_at desc);
create index store_items_expiring on store_items (expires_at) where expires_at is not null;
