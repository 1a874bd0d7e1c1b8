-- Days of the outbox that retention takes out (src/ops/retention.ts): noted before the first step and until after the last, so that a crash
-- between two steps is continued, and so that whoever misses an event of a dropped day can tell that from a database that lost rows.

create table ferry.outbox_retired (
  day          date        primary key,
  first_id     uuid        not null,
  end_id       uuid        not null,
  rows         bigint      not null,
  begun_at     timestamptz not null default clock_timestamp(),
  detached_lsn pg_lsn,
  dropped_at   timestamptz
);
comment on table ferry.outbox_retired is 'Days of the outbox that were dropped, or are about to be.';
comment on column ferry.outbox_retired.end_id is 'The ids of the day are from first_id to below this.';
comment on column ferry.outbox_retired.detached_lsn is 'Everything in the day was committed below: what relays must have published before it is dropped.';
comment on column ferry.outbox_retired.dropped_at is 'Null: the day is being taken out, and until it is dropped it can still be put back.';
grant select on ferry.outbox_retired to ferry_reader, ferry_api, ferry_relay;

-- As ferry.inbox_day since 0103: the day is read from partitions' own names only, whatever conditions a query adds.
create or replace view ferry.outbox_day as
select c.oid::regclass as partition,
       case when i.inhparent = 'ferry.outbox'::regclass then to_date(right(c.relname, 8), 'YYYYMMDD') end as day
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ferry.outbox'::regclass and c.relname ~ '^outbox_\d{8}$';

comment on function ferry.outbox_status(uuid, text) is
  'pending, published, dead-lettered, or unknown: no committed row has this id, or its day has been dropped.';

-- As in 0012, but the guard below leaves room for a day that is detached and may yet be put back.
create or replace function ferry.ensure_partitions(days_ahead int) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  today date := (clock_timestamp() at time zone 'UTC')::date;
  oldest date;
  newest date;
  created int := 0;
begin
  if days_ahead is null or days_ahead not between 1 and 366 then
    raise exception using errcode = '22023', message = format('days_ahead is %s; it takes 1 to 366', days_ahead);
  end if;
  perform pg_advisory_xact_lock(hashtextextended('ferry.ensure_partitions', 0));
  select min(day), max(day) into oldest, newest from ferry.outbox_day;
  oldest := least(oldest, (select min(day) from ferry.outbox_retired where dropped_at is null));
  created := greatest(today + days_ahead - coalesce(newest, today - 2), 0);
  if created = 0 and exists (
    select from pg_class where oid = to_regclass('ferry.outbox_guard_before')
      and position(ferry.uuid_floor(oldest::timestamp at time zone 'UTC')::text in pg_get_expr(relpartbound, oid)) > 0
  ) then
    return 0;
  end if;

  drop table if exists ferry.outbox_guard_before, ferry.outbox_guard_after;
  -- without a gap, also after a long rest: an id that falls into one would meet Postgres's own error
  for i in 1..created loop
    newest := coalesce(newest, today - 2) + 1;
    oldest := coalesce(oldest, newest);
    perform ferry.make_outbox_partition(
      'outbox_' || to_char(newest, 'YYYYMMDD'),
      quote_literal(ferry.uuid_floor(newest::timestamp at time zone 'UTC')),
      quote_literal(ferry.uuid_floor((newest + 1)::timestamp at time zone 'UTC')));
  end loop;
  perform ferry.make_outbox_partition(
    'outbox_guard_before', 'minvalue', quote_literal(ferry.uuid_floor(oldest::timestamp at time zone 'UTC')));
  perform ferry.make_outbox_partition(
    'outbox_guard_after', quote_literal(ferry.uuid_floor((newest + 1)::timestamp at time zone 'UTC')), 'maxvalue');
  return created;
end
$$;
