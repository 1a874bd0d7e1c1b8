-- Partitions by UTC day, and a guard at each end. A row that no day takes would meet Postgres's own "no partition found" before any
-- trigger runs, and a DEFAULT partition would forbid DETACH CONCURRENTLY: so two partitions that are always empty cover everything below
-- the oldest and above the newest day, and their trigger says what is wrong and what to do.

create function ferry.outbox_unpartitioned() returns trigger
language plpgsql as $$
begin
  raise exception using
    errcode = 'OX002',
    message = format('the outbox has no partition for the day of event id %s', new.id),
    hint = 'Run ./ferry migrate: it makes the partitions of the coming 30 days.';
end
$$;
revoke execute on function ferry.outbox_unpartitioned() from public;

-- The days that have a partition.
create view ferry.outbox_day as
select c.oid::regclass as partition, to_date(right(c.relname, 8), 'YYYYMMDD') as day
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ferry.outbox'::regclass and c.relname ~ '^outbox_\d{8}$';
grant select on ferry.outbox_day to ferry_reader, ferry_api, ferry_relay;

create function ferry.make_outbox_partition(name text, lower_bound text, upper_bound text) returns void
language plpgsql as $$
begin
  execute format('create table ferry.%I partition of ferry.outbox for values from (%s) to (%s)', name, lower_bound, upper_bound);
  execute format(
    'create trigger outbox_no_truncate before truncate on ferry.%I for each statement execute function ferry.refuse_change()', name);
  if name like 'outbox\_guard\_%' then
    -- Triggers fire in the order of their names: outbox_stamp comes first and refuses what is no id of about now.
    execute format(
      'create trigger outbox_unpartitioned before insert on ferry.%I for each row execute function ferry.outbox_unpartitioned()', name);
  end if;
end
$$;

-- Makes the missing partitions from yesterday to `days_ahead` days from now, and moves the guards. Returns how many it made. Moving a
-- guard locks the whole outbox against writers for some milliseconds; it waits for that lock half a second at most, since everybody
-- queues behind it meanwhile, and fails with 55P03: try again.
create function ferry.ensure_partitions(days_ahead int) returns int
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

revoke execute on function ferry.make_outbox_partition(text, text, text), ferry.ensure_partitions(int) from public;
grant execute on function ferry.ensure_partitions(int) to ferry_api, ferry_relay;
