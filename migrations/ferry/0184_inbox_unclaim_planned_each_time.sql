-- As in 0173. Before Postgres 18 a function in SQL has one plan for all arguments, which opens every day; PL/pgSQL plans with the arguments.
create or replace function ferry.inbox_unclaim(by_group text, event_ids uuid[], recorded timestamptz[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from ferry.inbox
  where consumer_group = by_group
    and recorded_at = any (recorded)
    and (event_id, recorded_at) in (select * from unnest(event_ids, recorded))
    and xmin = pg_current_xact_id()::xid;
end
$$;
