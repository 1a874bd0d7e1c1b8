-- Of a batch of events some may fail while the others are applied. Those that fail are taken out of the inbox again, in the transaction that
-- entered them; what another transaction entered is never taken out, so that nothing that was applied is ever forgotten.
create function ferry.inbox_unclaim(by_group text, event_ids uuid[], recorded timestamptz[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  delete from ferry.inbox
  where consumer_group = by_group
    and (event_id, recorded_at) in (select * from unnest(event_ids, recorded))
    and xmin = pg_current_xact_id()::xid
$$;

revoke execute on function ferry.inbox_unclaim(text, uuid[], timestamptz[]) from public;
grant execute on function ferry.inbox_unclaim(text, uuid[], timestamptz[]) to ferry_consumer;
