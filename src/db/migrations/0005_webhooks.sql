-- The outbox: what ended runs owe to the webhooks they named, a row each, written in the statement that ends the run. A row outlives
-- its run and its thread, so that a temporary thread can go before its delivery is through.
create table webhook_deliveries (
  delivery_id uuid primary key,
  run_id uuid not null unique,
  thread_id uuid not null,
  -- the thread's at that time: who may see the thread may see this
  thread_metadata jsonb not null,
  -- as the URL standard prints it: scheme://host[:port]/...
  url text not null,
  host text not null generated always as (split_part(url, '/', 3)) stored,
  -- JSON text, the same at every try
  body text not null,
  size integer not null generated always as (octet_length(body)) stored,
  status text not null default 'pending' check (status in ('pending', 'delivered', 'failed')),
  attempts integer not null default 0,
  -- of a pending one: when it may be claimed; claiming moves it on by the lease
  due_at timestamptz not null default clock_timestamp(),
  -- whose the present try is: only its outcome counts
  claim uuid,
  created_at timestamptz not null default clock_timestamp(),
  last_attempt_at timestamptz,
  ended_at timestamptz,
  last_status integer,
  last_error text,
  check ((status = 'pending') = (ended_at is null))
) with (fillfactor = 80);
create index webhook_deliveries_due on webhook_deliveries (host, due_at, delivery_id) where status = 'pending';
create index webhook_deliveries_ended on webhook_deliveries (ended_at) where status <> 'pending';
