-- What the way of an event is put together from (src/ops/lineage.ts). Payload and headers are no business of the API's.
grant select (aggregateversion, occurred_at, recorded_at, seq, tx, schema_id) on ferry.outbox to ferry_api;
grant select on ferry.relay_dead_letter to ferry_api;
grant execute on function ferry.outbox_status(uuid, text) to ferry_api;
-- What operators did to an event; applications' rows, of which there are as many as events, are not in it.
create index audit_operated_event on ferry.audit (event_id) where event_id is not null and reason is not null;
