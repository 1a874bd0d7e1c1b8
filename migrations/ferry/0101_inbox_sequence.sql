-- How far a consumer group has applied each aggregate, and the events that came before the ones they follow: for consumers that apply only
-- the next version (src/inbox/in-sequence.ts).

create table ferry.inbox_sequence (
  consumer_group  text   not null,
  aggregate_type  text   not null,
  aggregate_id    text   not null,
  applied_version bigint not null,
  waiting         int    not null default 0,
  primary key (consumer_group, aggregate_type, aggregate_id),
  constraint inbox_sequence_applied_version_not_negative check (applied_version >= 0),
  constraint inbox_sequence_waiting_is_bounded check (waiting between 0 and 1000)
) with (fillfactor = 80); -- room for updates in place
comment on table ferry.inbox_sequence is 'The version up to which a consumer group has applied an aggregate; its lock puts the group''s members in order.';
comment on column ferry.inbox_sequence.applied_version is 'Add 1 to give up the next version for good: the aggregate''s next event releases what waits behind it.';
comment on column ferry.inbox_sequence.waiting is 'How many events wait for the next version.';

create table ferry.inbox_waiting (
  consumer_group text        not null,
  aggregate_type text        not null,
  aggregate_id   text        not null,
  version        bigint      not null,
  event_id       uuid        not null,
  -- json and not jsonb: jsonb writes numbers in its own way (1e300 as 301 digits) and refuses U+0000, which an Avro string may hold.
  event          json        not null,
  waiting_since  timestamptz not null default clock_timestamp(),
  primary key (consumer_group, aggregate_type, aggregate_id, version),
  foreign key (consumer_group, aggregate_type, aggregate_id) references ferry.inbox_sequence on delete cascade
);
comment on table ferry.inbox_waiting is 'Events that came before an earlier version of their aggregate: applied in the transaction that closes the gap.';

grant select, insert, update, delete on ferry.inbox_sequence, ferry.inbox_waiting to ferry_consumer;
grant select on ferry.inbox_sequence, ferry.inbox_waiting to ferry_reader;
