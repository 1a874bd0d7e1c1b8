-- The outbox: one row an event, inserted in the transaction of the business rows it tells of, never changed. It is the ledger that
-- replay and reconciliation read. Partitioned by day over the time in its UUIDv7 id.

create sequence ferry.outbox_seq as bigint;

create table ferry.outbox (
  -- by the writer
  id               uuid        not null default ferry.uuidv7(),
  aggregatetype    text        not null,
  aggregateid      text        not null,
  aggregateversion bigint,
  type             text        not null,
  payload          jsonb,
  payload_bytes    bytea,
  tombstone        boolean     not null default false,
  schema_id        int,
  headers          jsonb       not null default '{}',
  traceparent      text,
  occurred_at      timestamptz not null default clock_timestamp(),
  -- by the trigger outbox_stamp alone, whatever the writer says
  seq              bigint      not null,
  recorded_at      timestamptz not null,
  tx               xid8        not null,
  inserted_lsn     pg_lsn      not null,
  primary key (id),
  constraint outbox_payload_is_one_kind check (num_nonnulls(payload, payload_bytes) + tombstone::int = 1),
  constraint outbox_aggregatetype_length check (octet_length(aggregatetype) between 1 and 200),
  constraint outbox_aggregateid_length check (octet_length(aggregateid) between 1 and 512),
  constraint outbox_aggregateversion_positive check (aggregateversion > 0),
  constraint outbox_type_length check (octet_length(type) between 1 and 255),
  constraint outbox_payload_size check (pg_column_size(payload) <= 16777216 and octet_length(payload_bytes) <= 16777216),
  constraint outbox_schema_id_positive check (schema_id > 0),
  constraint outbox_headers_are_flat_strings check (
    headers = '{}'
    or (
      jsonb_typeof(headers) = 'object'
      and pg_column_size(headers) <= 16384
      -- strict: the lax mode would unwrap an array of strings and find only strings
      and not jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')
    )
  ),
  constraint outbox_traceparent_length check (octet_length(traceparent) between 1 and 128),
  -- RFC 3339 has years of four digits; this refuses infinity too
  constraint outbox_occurred_at_is_a_date check (occurred_at >= '0001-01-01 00:00:00+00' and occurred_at < '10000-01-01 00:00:00+00')
) partition by range (id);

alter sequence ferry.outbox_seq owned by ferry.outbox.seq;

comment on table ferry.outbox is 'Events, insert-only. Write with ferry.emit(...) or insert; Ferry carries each committed row to Kafka once.';
comment on column ferry.outbox.id is 'UUIDv7 of about now; leave it out or use ferry.uuidv7().';
comment on column ferry.outbox.aggregatetype is 'Chooses the topic.';
comment on column ferry.outbox.aggregateid is 'The record''s key: events of one aggregate keep their order.';
comment on column ferry.outbox.aggregateversion is 'Grows by one with each event of the aggregate; null if the writer does not count.';
comment on column ferry.outbox.type is 'Full name of the Avro record.';
comment on column ferry.outbox.payload is 'The event as plain JSON.';
comment on column ferry.outbox.payload_bytes is 'The event in Confluent wire format, instead of payload.';
comment on column ferry.outbox.tombstone is 'True, with both payloads null: a null record value.';
comment on column ferry.outbox.schema_id is 'Pins the schema by its registry id; null takes the latest of the subject.';
comment on column ferry.outbox.seq is 'Unique, in order of insertion, which is not the order of commits.';
comment on column ferry.outbox.recorded_at is 'The database''s clock at the insert.';
comment on column ferry.outbox.tx is 'The writing transaction.';
comment on column ferry.outbox.inserted_lsn is 'WAL position at the insert: a lower bound of the commit LSN.';

-- Called for every row, so written for speed: simple expressions only, no SET clause, no query. Six get_byte cost less than any
-- detour over text (the uuid functions that read a v7's time exist from 17 on).
create function ferry.outbox_stamp() returns trigger
language plpgsql as $$
declare
  bytes bytea := uuid_send(new.id);
  made_ms bigint := (get_byte(bytes, 0)::bigint << 40) | (get_byte(bytes, 1)::bigint << 32) | (get_byte(bytes, 2)::bigint << 24)
                    | (get_byte(bytes, 3) << 16) | (get_byte(bytes, 4) << 8) | get_byte(bytes, 5);
  age_seconds double precision;
begin
  new.recorded_at := clock_timestamp();
  age_seconds := date_part('epoch', new.recorded_at) - made_ms / 1000.0::double precision;
  if get_byte(bytes, 6) >> 4 <> 7 or get_byte(bytes, 8) >> 6 <> 2 or age_seconds > 86400 or age_seconds < -3600 then
    raise exception using
      errcode = 'OX001',
      message = format('outbox event id %s is not a UUIDv7 of about now (one day back to one hour ahead)', new.id),
      hint = 'Use ids made by ferry.uuidv7(), or leave the column out.';
  end if;
  new.seq := nextval('ferry.outbox_seq');
  new.tx := pg_current_xact_id();
  new.inserted_lsn := pg_current_wal_insert_lsn();
  return new;
end
$$;

create function ferry.refuse_change() returns trigger
language plpgsql as $$
begin
  raise exception using
    errcode = 'OX003',
    message = format('%s refused: %I.%I is insert-only', tg_op, tg_table_schema, tg_table_name),
    hint = 'It is a ledger: insert a new row that corrects the old one.';
end
$$;

create trigger outbox_stamp before insert on ferry.outbox
  for each row execute function ferry.outbox_stamp();
-- Postgres copies row triggers to every partition, statement triggers to none: so the partitions get theirs for TRUNCATE one by one.
create trigger outbox_insert_only before update or delete on ferry.outbox
  for each row execute function ferry.refuse_change();
create trigger outbox_no_truncate before truncate on ferry.outbox
  for each statement execute function ferry.refuse_change();

revoke execute on function ferry.outbox_stamp(), ferry.refuse_change() from public;

-- No grant but these: the columns below are the writer's, and partitions are reached through the root only.
grant insert (id, aggregatetype, aggregateid, aggregateversion, type, payload, payload_bytes, tombstone, schema_id, headers, traceparent, occurred_at)
  on ferry.outbox to ferry_writer;
grant usage on sequence ferry.outbox_seq to ferry_writer; -- nextval for the trigger; setval would need update
grant select on ferry.outbox to ferry_reader, ferry_relay;
