-- A run that was in an executor that died, where nobody knows which of the runs in it was to blame: it runs alone from
-- then on, so that only the one to blame is charged.
alter table runs add column suspect boolean not null default false;
