-- A projection that a consumer keeps from Kafka: what each customer ordered and cancelled. With it the inbox: an event's id goes into it
-- in the transaction of the event's effect, so that a redelivery changes nothing.
create table commerce.inbox (
  consumer_group text        not null,
  event_id       uuid        not null,
  recorded_at    timestamptz not null, -- of the event: by it old entries can be dropped
  primary key (consumer_group, event_id)
);

create table commerce.orders_per_customer (
  customer_id     text           not null,
  currency        text           not null,
  placed          bigint         not null default 0,
  placed_total    numeric(20, 2) not null default 0,
  cancelled       bigint         not null default 0,
  cancelled_total numeric(20, 2) not null default 0,
  primary key (customer_id, currency)
);

grant select, insert on commerce.inbox to ferry_api;
grant select, insert, update on commerce.orders_per_customer to ferry_api;
grant select on commerce.inbox, commerce.orders_per_customer to ferry_reader;
