-- Whether an event has been published, without ever touching its row: the relay keeps the newest snapshot of which every visible
-- transaction has been published (relay_progress), and each row knows its transaction.
create function ferry.outbox_status(id uuid, relay text default 'main') returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  select coalesce((
    select case
      when not coalesce(pg_visible_in_snapshot(event.tx, progress.published_snapshot), false) then 'pending'
      when exists (
        select from ferry.relay_dead_letter letter where letter.relay = $2 and letter.event_id = $1
      ) then 'dead-lettered'
      else 'published'
    end
    from ferry.outbox event
    left join ferry.relay_progress progress on progress.relay = $2
    where event.id = $1
  ), 'unknown')
$$;
comment on function ferry.outbox_status(uuid, text) is 'pending, published, dead-lettered, or unknown: no committed row has this id.';
revoke execute on function ferry.outbox_status(uuid, text) from public;
grant execute on function ferry.outbox_status(uuid, text) to ferry_writer, ferry_reader;
