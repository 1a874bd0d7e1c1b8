-- Shipping: one shipment for each order.
create schema shipping;

create table shipping.shipments (
  order_id       uuid        not null primary key,
  shipment_id    uuid        not null unique,
  status         text        not null,
  customer_id    text,
  pieces         int         check (pieces > 0),
  refusal        text,
  handed_over_at timestamptz,
  created_at     timestamptz not null default clock_timestamp(),
  changed_at     timestamptz not null default clock_timestamp(),
  constraint shipments_status_is_known check (status in ('arranged', 'held', 'handed-over', 'cancelled', 'refused')),
  constraint shipments_say_when_they_left check ((status = 'handed-over') = (handed_over_at is not null)),
  constraint shipments_say_why_they_stay check (status not in ('held', 'refused') or refusal is not null)
);
comment on table shipping.shipments is 'One for each order; a row also where it was cancelled before it was arranged.';

grant usage on schema shipping to ferry_consumer, ferry_reader;
grant select, insert, update on shipping.shipments to ferry_consumer;
grant select on all tables in schema shipping to ferry_reader;
