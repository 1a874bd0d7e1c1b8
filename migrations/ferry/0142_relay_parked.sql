-- Keys that a relay has parked, for who looks on: the relay's own record of them is its topic in Kafka, by which it corrects this at its start.
alter table ferry.relay_dead_letter
  add column topic        text,
  add column key          text,
  -- it holds its key up, or waits behind the event that does
  add column parked       boolean not null default false,
  add column ordinal      bigint,
  add column blocked_by   uuid,
  -- what a control message is about to make of it, and that message's place in the WAL; `discarded` stays
  add column resolution   text check (resolution in ('published', 'discarded')),
  add column resolved_lsn pg_lsn,
  add column resolved_seq integer;
create index relay_dead_letter_parked on ferry.relay_dead_letter (relay, topic, key, ordinal) where parked;
grant select on ferry.relay_dead_letter to ferry_api;
