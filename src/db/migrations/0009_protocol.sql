-- When a batch was made by its worker's clock, in milliseconds: that is the clock of checkpoints too, which clients hold the
-- times of events against. Null where no worker made it.
alter table events add column at_ms bigint;
