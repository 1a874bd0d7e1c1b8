-- A projection that a consumer keeps from Kafka: what each customer ordered and cancelled.
create table commerce.orders_per_customer (
  customer_id     text           not null,
  currency        text           not null,
  placed          bigint         not null default 0,
  placed_total    numeric(20, 2) not null default 0,
  cancelled       bigint         not null default 0,
  cancelled_total numeric(20, 2) not null default 0,
  primary key (customer_id, currency)
);

grant usage on schema commerce to ferry_consumer;
grant select, insert, update on commerce.orders_per_customer to ferry_consumer;
grant select on commerce.orders_per_customer to ferry_reader, ferry_api;
