-- Who may use the HTTP API. Keys are random 256 bits, so a plain SHA-256 of them cannot be turned back.
create table ferry.api_key (
  id         uuid        not null default gen_random_uuid() primary key,
  name       text        not null check (length(name) between 1 and 200),
  role       text        not null check (role in ('viewer', 'writer', 'operator', 'admin')),
  key_hash   bytea       not null unique check (octet_length(key_hash) = 32),
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz
);
grant select on ferry.api_key to ferry_api;

-- Secrets that Ferry makes for itself when none is configured; the first instance makes them, the others read.
create table ferry.secret (
  name       text        not null primary key,
  value      bytea       not null check (octet_length(value) >= 32),
  created_at timestamptz not null default clock_timestamp()
);
grant select, insert on ferry.secret to ferry_api;
