-- Dropping a past day locked the day before the table, the wrong way round for everybody who reads through the table: a POST that held the
-- table waited for the day, the drop for the table, until its lock time-out, with every later POST behind it.

-- The newest expiry of a day at once instead of by reading all of its answers (500,000: 0.1 ms, not 310). It grows with the time of the request,
-- so an insert appends to its last page, which is not measurable in an insert. Making it holds up POSTs while what is kept is read once.
create index idempotency_key_expires_at on ferry.idempotency_key (expires_at);

-- As in 0172, but the table is locked first, as everybody does: whoever wrote at the end of the day holds the table and has ended then, and
-- whoever comes later holds nothing yet. `only`: with the table locked nobody reaches a day, and a vacuum of another one is not waited for.
-- max() is read from the index also without statistics, where `exists` would be planned as a scan; now() is the transaction's start, which keeps
-- a day too long rather than too short.
create or replace function ferry.drop_idempotency_partitions() returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  past regclass;
  last_expiry timestamptz; -- null: the day has no answers
  dropped int := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('ferry.idempotency_key partitions', 0));
  for past in
    select partition from ferry.idempotency_day where day < (clock_timestamp() at time zone 'UTC')::date order by day
  loop
    execute format('select max(expires_at) from %s', past) into last_expiry;
    continue when last_expiry > now();
    lock table only ferry.idempotency_key in access exclusive mode;
    execute format('select max(expires_at) from %s', past) into last_expiry;
    continue when last_expiry > now();
    execute format('drop table %s', past);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;
