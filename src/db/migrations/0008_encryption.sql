-- Where there is a row, what threads hold is encrypted: only the keys of the servers can read the check.
create table encryption (
  key_check bytea not null,
  is_only_row boolean primary key default true check (is_only_row)
);
