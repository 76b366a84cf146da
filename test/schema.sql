create table assistant_versions (
  assistant_id uuid not null,
  version integer not null,
  graph_id text not null,
  name text not null,
  description text,
  config json not null,
  context json,
  metadata jsonb not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  constraint assistant_versions_assistant_id_fkey FOREIGN KEY (assistant_id) REFERENCES assistants(assistant_id) ON DELETE CASCADE,
  constraint assistant_versions_pkey PRIMARY KEY (assistant_id, version)
);

create table assistants (
  assistant_id uuid not null,
  graph_id text not null,
  name text not null,
  description text,
  config json not null,
  context json,
  metadata jsonb not null,
  version integer not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  constraint assistants_pkey PRIMARY KEY (assistant_id)
);

create table checkpoint_values (
  thread_id uuid not null,
  checkpoint_ns text not null,
  channel text not null,
  version text not null,
  type text not null,
  bytes bytea not null,
  chain text,
  "position" integer,
  base text,
  splices text,
  constraint checkpoint_values_pkey PRIMARY KEY (thread_id, checkpoint_ns, channel, version),
  constraint checkpoint_values_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES threads(thread_id) ON DELETE CASCADE
);

create table checkpoint_writes (
  thread_id uuid not null,
  checkpoint_ns text not null,
  checkpoint_id text not null,
  task_id text not null,
  idx integer not null,
  channel text not null,
  task_path text not null,
  type text not null,
  bytes bytea not null,
  run_id uuid,
  replaced_run_id uuid,
  replaced_channel text,
  replaced_type text,
  replaced_bytes bytea,
  source text,
  splices text,
  constraint checkpoint_writes_pkey PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx),
  constraint checkpoint_writes_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES threads(thread_id) ON DELETE CASCADE
);

create table checkpoints (
  thread_id uuid not null,
  checkpoint_ns text not null,
  checkpoint_id text not null,
  parent_checkpoint_id text,
  run_id uuid,
  checkpoint json not null,
  metadata jsonb not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  constraint checkpoints_pkey PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id),
  constraint checkpoints_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES threads(thread_id) ON DELETE CASCADE
);

create table cron_runs (
  cron_id uuid not null,
  slot timestamp with time zone not null,
  run_id uuid not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  constraint cron_runs_cron_id_fkey FOREIGN KEY (cron_id) REFERENCES crons(cron_id) ON DELETE CASCADE,
  constraint cron_runs_pkey PRIMARY KEY (cron_id, slot)
);

create table crons (
  cron_id uuid not null,
  assistant_id uuid not null,
  thread_id uuid,
  user_id text,
  schedule text not null,
  timezone text,
  end_time timestamp with time zone,
  on_run_completed text,
  payload json not null,
  metadata jsonb not null,
  enabled boolean not null,
  next_run_date timestamp with time zone,
  last_slot timestamp with time zone,
  failures integer not null default 0,
  last_error text,
  disabled_reason text,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  constraint crons_check CHECK (((thread_id IS NULL) = (on_run_completed IS NOT NULL))),
  constraint crons_check1 CHECK (((next_run_date IS NULL) OR enabled)),
  constraint crons_check2 CHECK ((next_run_date > last_slot)),
  constraint crons_check3 CHECK (((disabled_reason IS NULL) OR (NOT enabled))),
  constraint crons_on_run_completed_check CHECK ((on_run_completed = ANY (ARRAY['delete'::text, 'keep'::text]))),
  constraint crons_pkey PRIMARY KEY (cron_id),
  constraint crons_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES threads(thread_id) ON DELETE CASCADE
);

create table encryption (
  key_check bytea not null,
  is_only_row boolean not null default true,
  constraint encryption_is_only_row_check CHECK (is_only_row),
  constraint encryption_pkey PRIMARY KEY (is_only_row)
);

create table events (
  thread_id uuid not null,
  first_seq bigint not null,
  last_seq bigint not null,
  run_id uuid not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  batch text not null,
  at_ms bigint,
  base bigint,
  size bigint,
  constraint events_check CHECK ((last_seq >= first_seq)),
  constraint events_pkey PRIMARY KEY (thread_id, first_seq),
  constraint events_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES threads(thread_id) ON DELETE CASCADE
);

create table heddle_migrations (
  name text not null,
  applied_at timestamp with time zone not null default clock_timestamp(),
  constraint heddle_migrations_pkey PRIMARY KEY (name)
);

create table idempotency_keys (
  key text not null,
  body_hash text not null,
  run_ids uuid[] not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  constraint idempotency_keys_pkey PRIMARY KEY (key)
);

create table runs (
  run_id uuid not null,
  ordinal bigint not null generated always as identity,
  thread_id uuid not null,
  assistant_id uuid not null,
  graph_id text not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  status text not null,
  metadata jsonb not null,
  kwargs json not null,
  multitask_strategy text not null,
  available_at timestamp with time zone not null default clock_timestamp(),
  attempt integer not null default 0,
  worker_id uuid,
  started_at timestamp with time zone,
  ended_at timestamp with time zone,
  cancel_action text,
  cancel_reason text,
  error json,
  temporary boolean not null default false,
  suspect boolean not null default false,
  constraint runs_cancel_action_check CHECK ((cancel_action = ANY (ARRAY['interrupt'::text, 'rollback'::text]))),
  constraint runs_check CHECK (((status = 'running'::text) = (worker_id IS NOT NULL))),
  constraint runs_multitask_strategy_check CHECK ((multitask_strategy = ANY (ARRAY['reject'::text, 'enqueue'::text, 'interrupt'::text, 'rollback'::text]))),
  constraint runs_pkey PRIMARY KEY (run_id),
  constraint runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'success'::text, 'error'::text, 'timeout'::text, 'interrupted'::text]))),
  constraint runs_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES threads(thread_id) ON DELETE CASCADE
);

create table store_index (
  singleton boolean not null default true,
  index_id integer not null,
  dims integer not null,
  embed text not null,
  fields jsonb not null,
  constraint store_index_pkey PRIMARY KEY (singleton),
  constraint store_index_singleton_check CHECK (singleton)
);

create table store_items (
  namespace text[] not null,
  key text not null,
  value jsonb not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  ttl_minutes double precision,
  expires_at timestamp with time zone,
  item_id bigint not null generated always as identity,
  index_fields jsonb,
  embedded_by integer,
  constraint store_items_id UNIQUE (item_id),
  constraint store_items_pkey PRIMARY KEY (namespace, key)
);

create table threads (
  thread_id uuid not null,
  created_at timestamp with time zone not null default clock_timestamp(),
  updated_at timestamp with time zone not null default clock_timestamp(),
  state_updated_at timestamp with time zone,
  metadata jsonb not null,
  config json not null default '{}'::json,
  settled_status text not null default 'idle'::text,
  "values" json,
  interrupts json not null default '{}'::json,
  error json,
  held_by uuid,
  epoch bigint not null default (floor((EXTRACT(epoch FROM clock_timestamp()) * (1000000)::numeric)))::bigint,
  last_seq bigint not null default 0,
  ttl_strategy text,
  ttl_minutes double precision,
  expires_at timestamp with time zone,
  doomed_at timestamp with time zone,
  leftovers boolean not null default false,
  constraint threads_pkey PRIMARY KEY (thread_id),
  constraint threads_settled_status_check CHECK ((settled_status = ANY (ARRAY['idle'::text, 'interrupted'::text, 'error'::text]))),
  constraint threads_ttl_strategy_check CHECK ((ttl_strategy = ANY (ARRAY['delete'::text, 'keep_latest'::text])))
);

create table webhook_deliveries (
  delivery_id uuid not null,
  run_id uuid not null,
  thread_id uuid not null,
  thread_metadata jsonb not null,
  url text not null,
  host text not null default split_part(url, '/'::text, 3),
  body text not null,
  size integer not null default octet_length(body),
  status text not null default 'pending'::text,
  attempts integer not null default 0,
  due_at timestamp with time zone not null default clock_timestamp(),
  claim uuid,
  created_at timestamp with time zone not null default clock_timestamp(),
  last_attempt_at timestamp with time zone,
  ended_at timestamp with time zone,
  last_status integer,
  last_error text,
  constraint webhook_deliveries_check CHECK (((status = 'pending'::text) = (ended_at IS NULL))),
  constraint webhook_deliveries_pkey PRIMARY KEY (delivery_id),
  constraint webhook_deliveries_run_id_key UNIQUE (run_id),
  constraint webhook_deliveries_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text])))
);

create table workers (
  worker_id uuid not null,
  lease_until timestamp with time zone not null,
  started_at timestamp with time zone not null default clock_timestamp(),
  graph_ids text[] not null default '{}'::text[],
  constraint workers_pkey PRIMARY KEY (worker_id)
);

CREATE INDEX assistants_created ON public.assistants USING btree (created_at DESC, assistant_id);
CREATE INDEX assistants_graph ON public.assistants USING btree (graph_id);
CREATE INDEX assistants_metadata ON public.assistants USING gin (metadata jsonb_path_ops);
CREATE INDEX checkpoint_values_chain ON public.checkpoint_values USING btree (thread_id, checkpoint_ns, channel, chain, "position") WHERE (chain IS NOT NULL);
CREATE INDEX checkpoints_run ON public.checkpoints USING btree (run_id) WHERE (run_id IS NOT NULL);
CREATE INDEX cron_runs_created ON public.cron_runs USING brin (created_at);
CREATE INDEX crons_assistant ON public.crons USING btree (assistant_id);
CREATE INDEX crons_created ON public.crons USING btree (created_at DESC, cron_id);
CREATE INDEX crons_due ON public.crons USING btree (next_run_date) WHERE (next_run_date IS NOT NULL);
CREATE INDEX crons_metadata ON public.crons USING gin (metadata jsonb_path_ops);
CREATE INDEX crons_thread ON public.crons USING btree (thread_id) WHERE (thread_id IS NOT NULL);
CREATE INDEX events_created ON public.events USING brin (created_at);
CREATE INDEX events_run ON public.events USING btree (run_id, first_seq);
CREATE INDEX idempotency_keys_created ON public.idempotency_keys USING btree (created_at);
CREATE INDEX runs_active ON public.runs USING btree (thread_id, ordinal) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text]));
CREATE INDEX runs_held ON public.runs USING btree (worker_id) WHERE (status = 'running'::text);
CREATE UNIQUE INDEX runs_one_running ON public.runs USING btree (thread_id) WHERE (status = 'running'::text);
CREATE INDEX runs_thread ON public.runs USING btree (thread_id, ordinal DESC);
CREATE INDEX runs_waiting ON public.runs USING btree (ordinal) WHERE (status = 'pending'::text);
CREATE INDEX store_items_expiring ON public.store_items USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX store_items_updated ON public.store_items USING btree (updated_at DESC);
CREATE INDEX store_items_value ON public.store_items USING gin (value jsonb_path_ops);
CREATE INDEX threads_created ON public.threads USING btree (created_at DESC, thread_id) WHERE (doomed_at IS NULL);
CREATE INDEX threads_doomed ON public.threads USING btree (doomed_at) WHERE (doomed_at IS NOT NULL);
CREATE INDEX threads_expiring ON public.threads USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX threads_leftovers ON public.threads USING btree (thread_id) WHERE leftovers;
CREATE INDEX threads_metadata ON public.threads USING gin (metadata jsonb_path_ops);
CREATE INDEX threads_updated ON public.threads USING btree (updated_at DESC, thread_id) WHERE (doomed_at IS NULL);
CREATE INDEX webhook_deliveries_due ON public.webhook_deliveries USING btree (host, due_at, delivery_id) WHERE (status = 'pending'::text);
CREATE INDEX webhook_deliveries_ended ON public.webhook_deliveries USING btree (ended_at) WHERE (status <> 'pending'::text);
