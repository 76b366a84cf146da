-- Namespaces and keys are compared by their bytes: a prefix is then a range of the primary key.
alter table store_items
  alter column namespace type text[] collate "C",
  alter column key type text collate "C",
  add column item_id bigint not null generated always as identity,
  -- what the put said of indexing: null for the configured fields, false, or a list of fields
  add column index_fields jsonb,
  -- the semantic index that has its vectors; null where none has
  add column embedded_by integer,
  add constraint store_items_id unique (item_id);
drop index store_items_namespace;
create index store_items_value on store_items using gin (value jsonb_path_ops);

-- How the vectors were made that store_vectors holds. That table is made with it, since it needs an extension.
create table store_index (
  singleton boolean primary key default true check (singleton),
  index_id integer not null,
  dims integer not null,
  embed text not null,
  fields jsonb not null
);
