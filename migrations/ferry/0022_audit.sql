-- Who did what through the API: one row in the transaction of each write, never changed.
create table ferry.audit (
  id         bigint      generated always as identity primary key,
  at         timestamptz not null default clock_timestamp(),
  principal  text        not null,
  action     text        not null,
  subject    text        not null,
  event_id   uuid,
  request_id text
);
create index audit_subject on ferry.audit (subject, id);
create trigger audit_insert_only before update or delete on ferry.audit
  for each row execute function ferry.refuse_change();
create trigger audit_no_truncate before truncate on ferry.audit
  for each statement execute function ferry.refuse_change();
grant insert (principal, action, subject, event_id, request_id) on ferry.audit to ferry_api;
grant select on ferry.audit to ferry_reader;
