-- The dead-letter store: what relays and consumer groups have set aside, read from their dead-letter topics and kept until somebody has dealt
-- with it. A row is inserted in the transaction that moves its topic's position, so that each record is entered once, whatever dies.

create table ferry.dead_letter_source (
  topic       text        not null,
  partition   int         not null,
  topic_id    text        not null,
  next_offset bigint      not null,
  read_at     timestamptz not null default clock_timestamp(),
  primary key (topic, partition)
);
comment on table ferry.dead_letter_source is 'How far each dead-letter topic has been read into ferry.dead_letter.';
comment on column ferry.dead_letter_source.topic_id is 'Kafka''s id of the topic (KIP-516): one that was made anew is read from its beginning.';

create table ferry.dead_letter (
  id              uuid        not null primary key,
  -- whose
  consumer_group  text,
  -- of what
  event_id        uuid,
  recorded_at     timestamptz,
  event_type      text,
  source_topic    text        not null,
  source_position text        not null,
  key             bytea,
  value           bytea,
  headers         json        not null,
  original_record text        not null,
  payload         json,
  schema_id       int,
  -- why
  code            text        not null,
  error_type      text        not null,
  error_message   text        not null,
  error_stack     text,
  retry_count     int         not null,
  max_retries     int         not null,
  first_failed_at timestamptz not null,
  failed_at       timestamptz not null,
  replayable      boolean     not null,
  blocked_by      text,
  -- where it stands in Kafka
  topic           text        not null,
  partition       int         not null,
  record_offset   bigint      not null,
  copies          int         not null default 1,
  -- what became of it
  state           text        not null default 'open',
  state_at        timestamptz not null default clock_timestamp(),
  state_by        text,
  state_reason    text,
  retries         int         not null default 0,
  retry_id        uuid,
  patched         json,
  patched_value   bytea,
  told_at         timestamptz,
  told_lsn        pg_lsn,
  constraint dead_letter_state_is_known check (state in ('open', 'replaying', 'resolved', 'discarded'))
);
comment on table ferry.dead_letter is 'Dead letters of relays and consumer groups: one row for an event and whose it is.';
comment on column ferry.dead_letter.consumer_group is 'The group that could not apply it; null: the relay could not publish it.';
comment on column ferry.dead_letter.recorded_at is 'When the event was recorded: with its id, by what the inbox knows it.';
comment on column ferry.dead_letter.source_position is 'In the source topic <partition>/<offset>, in the WAL <commit LSN>/<seq>.';
comment on column ferry.dead_letter.headers is 'Those that the record had before it was set aside.';
comment on column ferry.dead_letter.original_record is 'value, or where the original is, if it was too large to be carried.';
comment on column ferry.dead_letter.payload is 'The value as plain JSON; null where it could not be decoded. json and not jsonb: every digit, and U+0000.';
comment on column ferry.dead_letter.record_offset is 'Of its first copy; a crash, or another failure, leaves further ones.';
comment on column ferry.dead_letter.retry_id is 'Of the last retry: what its owner is asked under.';
comment on column ferry.dead_letter.patched is 'What an operator made of the payload; the original stays.';
comment on column ferry.dead_letter.told_at is 'When its owner was told of what was decided; null while it is still to be.';
comment on column ferry.dead_letter.told_lsn is 'Behind what the relay was told: once it has published up to here, it has done it.';

-- One row for an event and whose it is; what has no event id cannot be told from others.
create unique index dead_letter_of_event on ferry.dead_letter (consumer_group, event_id) nulls not distinct where event_id is not null;
create index dead_letter_by_state on ferry.dead_letter (state, id);
create index dead_letter_by_key on ferry.dead_letter (source_topic, key);
create index dead_letter_to_tell on ferry.dead_letter (id) where told_at is null and state in ('replaying', 'discarded');

grant select, insert, update on ferry.dead_letter_source to ferry_api;
grant select, insert, update, delete on ferry.dead_letter to ferry_api;
grant execute on function ferry.uuidv7() to ferry_api;
grant select on ferry.dead_letter_source, ferry.dead_letter to ferry_reader;
