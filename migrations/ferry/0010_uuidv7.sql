-- Postgres has uuidv7() from 18 on only; the oldest that Ferry supports is 15. RFC 9562: 48 bits of milliseconds, and as in Postgres 18
-- the next 12 bits are the fraction of the millisecond (method 3), so that ids made one after another mostly sort so.

create function ferry.uuidv7() returns uuid
language plpgsql volatile parallel safe as $$
declare
  micros bigint := (date_part('epoch', clock_timestamp()) * 1000000)::bigint;
  fraction int := (micros % 1000) * 4096 / 1000;
  bytes bytea := overlay(uuid_send(gen_random_uuid()) placing substr(int8send(micros / 1000), 3) from 1 for 6);
begin
  bytes := set_byte(set_byte(bytes, 6, 112 | (fraction >> 8)), 7, fraction & 255); -- 112: version 7 in the upper half
  return encode(bytes, 'hex')::uuid;
end
$$;
comment on function ferry.uuidv7() is 'A fresh UUIDv7: the id of an outbox event.';

-- The smallest UUIDv7 of a moment: the bounds of the outbox partitions.
create function ferry.uuid_floor(moment timestamptz) returns uuid
language sql immutable strict parallel safe as $$
  select (lpad(to_hex((date_part('epoch', moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

revoke execute on function ferry.uuidv7(), ferry.uuid_floor(timestamptz) from public;
grant execute on function ferry.uuidv7() to ferry_writer;
