-- A subgraph is given the list of its parent and returns it, and a task may be sent the whole state: such a list is not stored again.
-- `splices` says where in the bytes which list stands: a JSON list of [place, namespace, channel, version].
alter table checkpoint_values add column splices text;
alter table checkpoint_writes add column splices text;
