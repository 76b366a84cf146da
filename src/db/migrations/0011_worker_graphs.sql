-- Which graphs a worker serves: it claims runs of these only, and whoever looks at a waiting run is told when nobody serves its
-- graph. Workers of a version before have none, and claim everything.
alter table workers add column graph_ids text[] not null default '{}';
