-- A run ended here otherwise than with success, or was rolled back: values may be left that no checkpoint has. They are looked
-- for once, when nothing runs on the thread.
alter table threads add column leftovers boolean not null default false;
create index threads_leftovers on threads (thread_id) where leftovers;
