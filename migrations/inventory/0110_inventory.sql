-- Inventory: what came in, what left, what is set aside; and for which order.
create schema inventory;

create table inventory.stock (
  sku      text   not null primary key check (octet_length(sku) between 1 and 64),
  received bigint not null default 0,
  shipped  bigint not null default 0 check (shipped >= 0),
  reserved bigint not null default 0 check (reserved >= 0),
  -- The rule that no reservation may break; the code checks it first, under the rows' locks, and this holds it.
  constraint stock_never_oversold check (shipped + reserved <= received)
);

create table inventory.reservations (
  order_id   uuid        not null primary key,
  status     text        not null,
  refusal    text,
  expires_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  changed_at timestamptz not null default clock_timestamp(),
  constraint reservations_status_is_known check (status in ('reserved', 'expired', 'issued', 'released', 'refused')),
  constraint reservations_expire check (status <> 'reserved' or expires_at is not null),
  constraint reservations_say_why_they_were_refused check ((status = 'refused') = (refusal is not null))
);
comment on table inventory.reservations is 'One for each order; a row also where it was released before it was asked for.';
create index reservations_by_expiry on inventory.reservations (expires_at) where status = 'reserved';

create table inventory.reservation_lines (
  order_id uuid not null references inventory.reservations,
  sku      text not null check (octet_length(sku) between 1 and 64),
  quantity int  not null check (quantity > 0),
  primary key (order_id, sku)
);

grant usage on schema inventory to ferry_consumer, ferry_reader, ferry_api;
grant select, insert, update on inventory.stock, inventory.reservations to ferry_consumer;
grant select, insert on inventory.reservation_lines to ferry_consumer;
grant select, insert, update on inventory.stock to ferry_api;
grant select on all tables in schema inventory to ferry_reader;
