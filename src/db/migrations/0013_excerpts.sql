-- What a task wrote is mostly what its channel holds afterwards. Such a write is stored as what it has beside the value of its
-- channel of the version `source`.
alter table checkpoint_writes add column source text;
