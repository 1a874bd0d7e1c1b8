-- What an operator has made of an event that could not be published; the outbox row stays as it was written. The relay takes it in the
-- row's place when it publishes the event after all.
create table ferry.event_patch (
  event_id   uuid        not null primary key,
  payload    jsonb       not null check (pg_column_size(payload) <= 16777216),
  schema_id  int         check (schema_id > 0),
  -- null: the row's own
  headers    jsonb       check (jsonb_typeof(headers) = 'object' and pg_column_size(headers) <= 16384
                                and not jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')),
  by         text        not null,
  reason     text        not null check (length(reason) between 1 and 1000),
  at         timestamptz not null default clock_timestamp()
);
grant select, insert, update on ferry.event_patch to ferry_api;
grant select on ferry.event_patch to ferry_relay;
