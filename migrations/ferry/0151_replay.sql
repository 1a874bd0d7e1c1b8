-- Replays: each a durable job that publishes rows of the outbox again, through the WAL. A page of rows is read, its messages are emitted and
-- the cursor is moved in one transaction (src/replay/step.ts), so that no row is in a replay twice or not at all, whatever dies.

-- What may be looked at to choose rows: everything but the payload. The schema is the one that the writer pinned, or that its bytes name;
-- of a row without either, only its record in Kafka tells.
create view ferry.outbox_fact as
select id, seq, tx, aggregatetype, aggregateid, aggregateversion, type, recorded_at, inserted_lsn,
       coalesce(schema_id, case when octet_length(payload_bytes) >= 5 and get_byte(payload_bytes, 0) = 0
         then ('x' || encode(substr(payload_bytes, 2, 4), 'hex'))::bit(32)::int end) as schema_id,
       tombstone
from ferry.outbox;
comment on view ferry.outbox_fact is 'The outbox without payloads and headers.';

create table ferry.replay (
  id                uuid        not null primary key,
  relay             text        not null,
  state             text        not null default 'checking',
  -- what was asked for
  selection         jsonb       not null,
  topic             text,
  new_ids           boolean     not null,
  schema_id         int,
  events_per_second int         not null,
  reason            text        not null,
  requested_by      text        not null,
  -- which rows there are, fixed at the start
  snapshot          pg_snapshot not null,
  first_seq         bigint      not null,
  last_seq          bigint      not null,
  -- how far it is
  checked           boolean     not null default false,
  cursor_seq        bigint      not null,
  selected          bigint      not null default 0,
  first_event_id    uuid,
  last_event_id     uuid,
  unfit             bigint      not null default 0,
  unfit_examples    jsonb       not null default '[]',
  left_out          bigint      not null default 0,
  emitted           bigint      not null default 0,
  epoch             int,
  drain_lsn         pg_lsn,
  next_step_at      timestamptz not null default clock_timestamp(),
  error_code        text,
  error             text,
  started_at        timestamptz not null default clock_timestamp(),
  changed_at        timestamptz not null default clock_timestamp(),
  ended_at          timestamptz,
  constraint replay_state_is_known check (state in ('checking', 'running', 'paused', 'completed', 'cancelled', 'refused')),
  constraint replay_rate_is_possible check (events_per_second between 1 and 100000),
  constraint replay_reason_length check (octet_length(reason) between 1 and 2000)
) with (fillfactor = 80); -- room for updates in place
create index replay_open on ferry.replay (relay, next_step_at) where ended_at is null;

comment on table ferry.replay is 'Rows of the outbox that are published again: what was asked for, and how far it is.';
comment on column ferry.replay.topic is 'Side topic; null: each to the topic where it was.';
comment on column ferry.replay.schema_id is 'Encoded with this schema instead of its own.';
comment on column ferry.replay.snapshot is 'Only rows whose transaction is visible here: what is written later is not part of it.';
comment on column ferry.replay.first_seq is 'No row of the selection has a smaller outbox.seq; last_seq: nor a greater one.';
comment on column ferry.replay.checked is 'The whole selection was looked through and everything fits: records may be published.';
comment on column ferry.replay.cursor_seq is 'Rows up to this outbox.seq have been looked at; begins anew after the check.';
comment on column ferry.replay.unfit is 'Rows that the check could not encode; one is enough to refuse the replay.';
comment on column ferry.replay.left_out is 'Rows passed over, because they are dead letters of the relay: those are released or retried.';
comment on column ferry.replay.emitted is 'Messages in the WAL; the ordinal of the last one.';
comment on column ferry.replay.epoch is 'The relay''s epoch that the messages were emitted in: a later one may not have read them all.';
comment on column ferry.replay.drain_lsn is 'All messages are below; the replay is complete when the relay has published that far.';
comment on column ferry.replay.next_step_at is 'When it may go on: the rate, and the wait after a failure.';

grant select on ferry.outbox_fact to ferry_reader, ferry_api, ferry_relay;
grant select on ferry.replay to ferry_reader, ferry_relay;
grant select, insert, update on ferry.replay to ferry_api;
-- How far behind the relay is, and what it has dead-lettered.
grant select on ferry.relay_epoch, ferry.relay_dead_letter to ferry_api;
