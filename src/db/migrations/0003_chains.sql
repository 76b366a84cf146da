-- A list that only grew is stored as what was added: `chain` names the version that is whole, `position` counts from it, `base`
-- is the version that this one added to.
alter table checkpoint_values add column chain text, add column position integer, add column base text;
create index checkpoint_values_chain on checkpoint_values (thread_id, checkpoint_ns, channel, chain, position)
  where chain is not null;
