-- Idempotency keys by the UTC day on which they were used, as outbox and inbox: a day goes as a whole once all of its answers have expired,
-- instead of row by row. An API of before this migration cannot write into it: its POSTs fail until the new one has taken over.

create temporary table unexpired on commit drop as
select * from ferry.idempotency_key where expires_at > clock_timestamp();
drop table ferry.idempotency_key;

-- One unexpired row a key: whoever writes holds the key's advisory lock (src/http/idempotency.ts).
create table ferry.idempotency_key (
  key_hash    bytea       not null check (octet_length(key_hash) = 32),
  fingerprint bytea       not null check (octet_length(fingerprint) = 32),
  status      smallint    not null check (status between 200 and 499),
  body        text        not null, -- to be sent again byte for byte
  location    text,
  created_at  timestamptz not null default clock_timestamp(),
  expires_at  timestamptz not null,
  primary key (key_hash, created_at)
) partition by range (created_at);
grant select, insert on ferry.idempotency_key to ferry_api;

-- The days that have a partition; CASE as in 0103.
create view ferry.idempotency_day as
select c.oid::regclass as partition,
       case when i.inhparent = 'ferry.idempotency_key'::regclass then to_date(right(c.relname, 8), 'YYYYMMDD') end as day
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ferry.idempotency_key'::regclass;
grant select on ferry.idempotency_day to ferry_reader, ferry_api;

-- Makes the partitions by UTC day of a table, named after it: from `first_day`, or after the newest there is, up to `days_ahead` from now.
-- Returns how many. Waits half a second at most for its lock, as its callers say.
create function ferry.make_days(parent regclass, first_day date, days_ahead int) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  today date := (clock_timestamp() at time zone 'UTC')::date;
  newest date;
  created int := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended(parent::text || ' partitions', 0));
  select coalesce(max(to_date(right(c.relname, 8), 'YYYYMMDD')), first_day - 1) into newest
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = parent;
  while newest < today + days_ahead loop
    newest := newest + 1;
    execute format(
      'create table %s partition of %s for values from (%L) to (%L)',
      parent::text || to_char(newest, '"_"YYYYMMDD'), parent,
      newest::timestamp at time zone 'UTC', (newest + 1)::timestamp at time zone 'UTC');
    created := created + 1;
  end loop;
  return created;
end
$$;

-- As in 0100.
create or replace function ferry.ensure_inbox_partitions(days_back int, days_ahead int) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
begin
  if days_back is null or days_back not between 1 and 3660 or days_ahead is null or days_ahead not between 1 and 366 then
    raise exception using errcode = '22023', message = 'days_back takes 1 to 3660, days_ahead 1 to 366';
  end if;
  return ferry.make_days('ferry.inbox', (clock_timestamp() at time zone 'UTC')::date - days_back, days_ahead);
end
$$;

create function ferry.ensure_idempotency_partitions(days_ahead int) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
begin
  if days_ahead is null or days_ahead not between 1 and 366 then
    raise exception using errcode = '22023', message = format('days_ahead is %s; it takes 1 to 366', days_ahead);
  end if;
  return ferry.make_days('ferry.idempotency_key', (clock_timestamp() at time zone 'UTC')::date, days_ahead);
end
$$;

-- Drops the past days of which no answer is in force any more; returns how many. The lock comes before the look: whoever wrote at the end of
-- the day has ended then.
create function ferry.drop_idempotency_partitions() returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  past regclass;
  in_force boolean;
  dropped int := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('ferry.idempotency_key partitions', 0));
  for past in
    select partition from ferry.idempotency_day where day < (clock_timestamp() at time zone 'UTC')::date order by day
  loop
    execute format('select exists (select from %s where expires_at > clock_timestamp())', past) into in_force;
    continue when in_force;
    execute format('lock table %s in access exclusive mode', past);
    execute format('select exists (select from %s where expires_at > clock_timestamp())', past) into in_force;
    continue when in_force;
    execute format('drop table %s', past);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

revoke execute on function
  ferry.make_days(regclass, date, int), ferry.ensure_idempotency_partitions(int), ferry.drop_idempotency_partitions() from public;
grant execute on function ferry.ensure_idempotency_partitions(int), ferry.drop_idempotency_partitions() to ferry_api;

select ferry.make_days(
  'ferry.idempotency_key',
  coalesce((select (min(created_at) at time zone 'UTC')::date from unexpired), (clock_timestamp() at time zone 'UTC')::date), 1);
insert into ferry.idempotency_key select * from unexpired;
