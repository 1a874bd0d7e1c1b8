-- Dead letters that go back to the one group that could not apply them. Stands where the group's inbox is: the request, the inbox row and the
-- effect are one transaction (src/inbox/retrier.ts).

create table ferry.inbox_retry (
  id             uuid        not null primary key,
  consumer_group text        not null,
  event_id       uuid        not null,
  recorded_at    timestamptz not null,
  topic          text        not null,
  partition      int         not null,
  record_offset  bigint      not null,
  key            bytea,
  value          bytea,
  headers        json        not null,
  carried        boolean     not null,
  requested_at   timestamptz not null default clock_timestamp(),
  outcome        text,
  error_code     text,
  error_message  text,
  ended_at       timestamptz,
  constraint inbox_retry_outcome_is_known check (outcome in ('applied', 'discarded', 'failed'))
);
comment on table ferry.inbox_retry is 'Dead letters that an operator has sent back to a consumer group.';
comment on column ferry.inbox_retry.carried is 'Whether the record is here whole; otherwise it is read from its topic.';
comment on column ferry.inbox_retry.outcome is 'Null while it is to be done; failed: it is a dead letter as before.';
create index inbox_retry_open on ferry.inbox_retry (consumer_group, id) where outcome is null;
create index inbox_retry_ended on ferry.inbox_retry (ended_at) where ended_at is not null;

-- What an operator has made of the value of an event that waits in a group's dead-letter topic: the group's releaser takes it in its place.
create table ferry.inbox_patch (
  consumer_group text        not null,
  event_id       uuid        not null,
  value          bytea       not null,
  patched_at     timestamptz not null default clock_timestamp(),
  primary key (consumer_group, event_id)
);
comment on table ferry.inbox_patch is 'Values that consumer groups take in the place of those in their dead-letter topics.';

grant select, update (outcome, error_code, error_message, ended_at) on ferry.inbox_retry to ferry_consumer;
grant select on ferry.inbox_patch to ferry_consumer;
grant select, insert, delete on ferry.inbox_retry to ferry_api;
grant select, insert, update, delete on ferry.inbox_patch to ferry_api;
grant update (outcome, processed_at) on ferry.inbox to ferry_api;
grant select on ferry.inbox_retry, ferry.inbox_patch to ferry_reader;
