-- Events whose data is a state that grew are stored as what changed: `base` is the first_seq of the row where the state stands
-- whole, `size` what the batch takes when it is put together.
alter table events add column base bigint, add column size bigint;
-- A thread that is deleted and made anew under its id must not come to an epoch that it has had before.
alter table threads alter column epoch set default floor(extract(epoch from clock_timestamp()) * 1000000)::bigint;
