-- Sagas that ended long ago are dropped with their steps and history (src/ops/saga-retention.ts). Nothing else can take history away: no role
-- may delete it, and the trigger refuses its owner too, but within the function below.

drop trigger saga_history_insert_only on ferry.saga_history;
create trigger saga_history_no_update before update on ferry.saga_history
  for each row execute function ferry.refuse_change();
create trigger saga_history_no_delete before delete on ferry.saga_history
  for each row when (current_setting('ferry.drops_ended_sagas', true) is distinct from 'on') execute function ferry.refuse_change();

-- Ids carry the time of the start: those that are old enough stand at the beginning of the primary key, where only a few long-lived ones stay.
-- Whoever may call it, the history of the last day stays.
create function ferry.drop_ended_sagas(ended_before timestamptz, at_most int) returns int
language sql security definer
set search_path = pg_catalog, pg_temp set ferry.drops_ended_sagas = 'on' as $$
  with ended as (
    select id from ferry.saga
    where id < ferry.uuid_floor(ended_before) and ended_at < least(ended_before, now() - interval '1 day')
    order by id limit at_most for update skip locked
  ), history as (
    delete from ferry.saga_history where saga_id in (select id from ended)
  ), dropped as (
    delete from ferry.saga where id in (select id from ended) returning 1
  )
  select count(*)::int from dropped
$$;
comment on function ferry.drop_ended_sagas(timestamptz, int) is 'Drops sagas with steps and history, the longest started first; returns how many.';
revoke execute on function ferry.drop_ended_sagas(timestamptz, int) from public;
grant execute on function ferry.drop_ended_sagas(timestamptz, int) to ferry_api;
