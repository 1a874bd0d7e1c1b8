-- What the dead-letter store has asked of this database's relay: the row and the control message are one transaction, so that each is asked once.
create table ferry.relay_ask (
  id       uuid        not null primary key,
  event_id uuid        not null,
  asked_at timestamptz not null default clock_timestamp()
);
comment on table ferry.relay_ask is 'Retries of dead letters that the relay was asked for, by the id of the retry.';
grant select, insert, delete on ferry.relay_ask to ferry_api;
grant select on ferry.relay_dead_letter to ferry_api;
grant execute on function ferry.outbox_status(uuid, text) to ferry_api;
