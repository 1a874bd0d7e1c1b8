-- The example module: customers with credit, and their orders. Amounts are whole minor units (cents), so that no sum can lose one.
create schema commerce;

create table commerce.customers (
  id              text        not null primary key check (octet_length(id) between 1 and 64),
  currency        text        not null check (currency ~ '^[A-Z]{3}$'),
  credit_limit    bigint      not null,
  credit_reserved bigint      not null default 0,
  created_at      timestamptz not null default clock_timestamp(),
  -- The rule that no order may break; the code checks it first, under the row's lock, and this holds it.
  constraint customers_never_overspent check (credit_reserved between 0 and credit_limit)
);

create table commerce.orders (
  id               uuid        not null primary key,
  customer_id      text        not null references commerce.customers,
  status           text        not null check (status in ('placed', 'cancelled')),
  currency         text        not null check (currency ~ '^[A-Z]{3}$'),
  total            bigint      not null check (total > 0),
  version          bigint      not null check (version > 0), -- of the aggregate's newest event
  customer_email   text,
  shipping_address jsonb,
  placed_at        timestamptz not null,
  changed_at       timestamptz not null
);
-- Lists go backwards in time, over all orders or one customer's: ids are UUIDv7.
create index orders_by_customer on commerce.orders (customer_id, id);

create table commerce.order_lines (
  order_id   uuid   not null references commerce.orders,
  position   int    not null check (position > 0),
  sku        text   not null check (octet_length(sku) between 1 and 64),
  quantity   int    not null check (quantity > 0),
  unit_price bigint not null check (unit_price >= 0),
  primary key (order_id, position)
);

grant usage on schema commerce to ferry_api, ferry_reader;
grant select, insert, update on commerce.customers, commerce.orders to ferry_api;
grant select, insert on commerce.order_lines to ferry_api;
grant select on all tables in schema commerce to ferry_reader;
