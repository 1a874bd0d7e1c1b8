-- What shows the relay that a message in the WAL comes from Ferry: anybody may emit one under any prefix (src/events/control-message.ts).
-- One for each relay, made by whoever needs it first; no application's role can read it.
create table ferry.relay_key (
  relay      text        not null primary key,
  key        bytea       not null check (octet_length(key) = 32),
  created_at timestamptz not null default clock_timestamp()
);
grant select, insert on ferry.relay_key to ferry_relay, ferry_api;
