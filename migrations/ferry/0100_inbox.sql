-- The inbox: which events a consumer group has dealt with, entered in the transaction of the event's effect, so that whatever Kafka
-- delivers again changes nothing. Partitioned by the day on which the event was recorded (replays keep it), and dropped by age.

do $$
begin
  -- Roles belong to the cluster: see 0001_roles.sql.
  if not exists (select from pg_roles where rolname = 'ferry_consumer') then
    create role ferry_consumer nologin;
  end if;
exception when duplicate_object or unique_violation then
  null; -- another database's migration was faster
end
$$;
grant usage on schema ferry to ferry_consumer;

create table ferry.inbox (
  consumer_group text        not null,
  event_id       uuid        not null,
  recorded_at    timestamptz not null,
  outcome        text        not null default 'applied',
  processed_at   timestamptz not null default clock_timestamp(),
  primary key (consumer_group, event_id, recorded_at),
  constraint inbox_outcome_is_known check (outcome in ('applied', 'parked', 'dead-lettered', 'discarded'))
) partition by range (recorded_at);
comment on table ferry.inbox is 'Events that a consumer group has dealt with, once each.';
comment on column ferry.inbox.recorded_at is 'When the event''s outbox row was written (ferry_recorded_at).';
comment on column ferry.inbox.outcome is 'applied; parked: in the dead-letter topic until its key is released; dead-lettered; discarded.';

-- The days that have a partition. There is no partition beside them on purpose: an event of another day cannot be told from one that was
-- applied already, so its insert must fail.
create view ferry.inbox_day as
select c.oid::regclass as partition, to_date(right(c.relname, 8), 'YYYYMMDD') as day
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ferry.inbox'::regclass;

-- Makes the days up to `days_ahead` from now; the first time also `days_back` backwards, and never again: a day that was dropped must stay
-- unknown. Returns how many it made. Waits half a second at most for its lock, since everybody queues behind it meanwhile, and fails with
-- 55P03: try again.
create function ferry.ensure_inbox_partitions(days_back int, days_ahead int) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  today date := (clock_timestamp() at time zone 'UTC')::date;
  newest date;
  created int := 0;
begin
  if days_back is null or days_back not between 1 and 3660 or days_ahead is null or days_ahead not between 1 and 366 then
    raise exception using errcode = '22023', message = 'days_back takes 1 to 3660, days_ahead 1 to 366';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('ferry.inbox partitions', 0));
  select coalesce(max(day), today - days_back - 1) into newest from ferry.inbox_day;
  while newest < today + days_ahead loop
    newest := newest + 1;
    execute format(
      'create table ferry.%I partition of ferry.inbox for values from (%L) to (%L)',
      'inbox_' || to_char(newest, 'YYYYMMDD'),
      newest::timestamp at time zone 'UTC', (newest + 1)::timestamp at time zone 'UTC');
    created := created + 1;
  end loop;
  return created;
end
$$;

-- Drops the days that are older than `days_kept`; returns how many. Locks as above.
create function ferry.drop_inbox_partitions(days_kept int) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  old regclass;
  dropped int := 0;
begin
  if days_kept is null or days_kept not between 1 and 3660 then
    raise exception using errcode = '22023', message = 'days_kept takes 1 to 3660';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('ferry.inbox partitions', 0));
  for old in select partition from ferry.inbox_day where day < (clock_timestamp() at time zone 'UTC')::date - days_kept loop
    execute format('drop table %s', old);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

-- A key whose order is kept: an event of it could not be applied, so the later ones follow it into the dead-letter topic until somebody
-- releases the key.
create table ferry.parked_key (
  consumer_group        text        not null,
  topic                 text        not null,
  key                   bytea       not null,
  source_partition      int         not null,
  event_id              uuid        not null,
  error_code            text        not null,
  events                bigint      not null,
  dead_letter_partition int         not null,
  dead_letter_offset    bigint      not null,
  parked_at             timestamptz not null default clock_timestamp(),
  release_requested_at  timestamptz,
  primary key (consumer_group, topic, key)
);
comment on table ferry.parked_key is 'Keys whose events wait in a consumer group''s dead-letter topic.';
comment on column ferry.parked_key.event_id is 'The event that could not be applied; the others wait behind it.';
comment on column ferry.parked_key.events is 'How many wait, that one included.';
comment on column ferry.parked_key.dead_letter_offset is 'Where the first of them stands in <group>.dlq.';
comment on column ferry.parked_key.release_requested_at is 'Set by an operator: the consumer applies what waits, in order, and removes this row.';

revoke execute on function ferry.ensure_inbox_partitions(int, int), ferry.drop_inbox_partitions(int) from public;
grant execute on function ferry.ensure_inbox_partitions(int, int), ferry.drop_inbox_partitions(int) to ferry_consumer;
grant select, insert, update on ferry.inbox to ferry_consumer;
grant select, insert, update, delete on ferry.parked_key to ferry_consumer;
grant select, update (release_requested_at) on ferry.parked_key to ferry_api;
grant select on ferry.inbox, ferry.parked_key to ferry_reader, ferry_api;
grant select on ferry.inbox_day to ferry_reader, ferry_consumer, ferry_api;
