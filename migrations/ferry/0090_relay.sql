-- What a relay must be able to prove about this database when it starts (src/relay/compare.ts), and what it tells readers of the outbox.

-- One row for each time a relay began anew: its slot, from where, and which rows are older than the slot.
create table ferry.relay_epoch (
  relay            text not null,
  epoch            integer not null check (epoch > 0),
  slot             name not null,
  state            text not null check (state in ('creating', 'live')),
  consistent_point pg_lsn,
  -- Rows whose transaction is visible here were committed before the slot: the relay publishes them from the table.
  snapshot         pg_snapshot,
  reason           text not null,
  created_at       timestamptz not null default clock_timestamp(),
  primary key (relay, epoch)
);

-- Counts the starts of a relay. A database that went back to an earlier state has a smaller run than the checkpoint in Kafka.
create table ferry.relay_run (
  relay text primary key,
  run   bigint not null
);

-- The newest snapshot of which every visible transaction is known to be in Kafka; ferry.outbox_status reads it.
create table ferry.relay_progress (
  relay              text primary key,
  published_snapshot pg_snapshot not null,
  published_lsn      pg_lsn not null,
  published_at       timestamptz not null default clock_timestamp()
);

-- Written before the Kafka transaction that dead-letters the event, taken back at the next start if that transaction did not commit.
create table ferry.relay_dead_letter (
  relay       text not null,
  event_id    uuid not null,
  commit_lsn  pg_lsn not null,
  seq         integer not null,
  error_code  text not null,
  recorded_at timestamptz not null default clock_timestamp(),
  primary key (relay, event_id)
);
create index relay_dead_letter_position on ferry.relay_dead_letter (relay, commit_lsn, seq);
