-- As in 0170, in the days of these events alone: a comparison with a list is what Postgres prunes partitions by, a join is not, so it opened
-- every day that the inbox remembers, while the batch held its rows.
create or replace function ferry.inbox_unclaim(by_group text, event_ids uuid[], recorded timestamptz[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  delete from ferry.inbox
  where consumer_group = by_group
    and recorded_at = any (recorded)
    and (event_id, recorded_at) in (select * from unnest(event_ids, recorded))
    and xmin = pg_current_xact_id()::xid
$$;
