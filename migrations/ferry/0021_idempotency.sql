-- Answers to requests that carried an Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header), written in the transaction of
-- the work they answer. The key is stored as an HMAC over principal, route and key; so is the body's fingerprint.
create table ferry.idempotency_key (
  key_hash    bytea       not null primary key check (octet_length(key_hash) = 32),
  fingerprint bytea       not null check (octet_length(fingerprint) = 32),
  status      smallint    not null check (status between 200 and 499),
  body        text        not null, -- to be sent again byte for byte
  location    text,
  created_at  timestamptz not null default clock_timestamp(),
  expires_at  timestamptz not null
);
create index idempotency_key_expiry on ferry.idempotency_key (expires_at);
grant select, insert, update, delete on ferry.idempotency_key to ferry_api;
