-- Those who carry out commands answer by events.
do $$
begin
  if not pg_has_role('ferry_consumer', 'ferry_writer', 'member') then
    grant ferry_writer to ferry_consumer;
  end if;
exception when unique_violation then
  null; -- another database's migration was faster: see ferry/0001_roles.sql
end
$$;

-- Payments: one for each order, under one idempotency key, kept for ever; and the ledger of what was booked for them.
create schema payment;

create table payment.payments (
  payment_id      uuid        not null primary key, -- the order's id: an order is paid once
  -- Under which key, and from where, it was asked for. Whoever comes with another key for the same payment is refused.
  idempotency_key text        not null check (octet_length(idempotency_key) between 1 and 200),
  source_system   text        not null check (octet_length(source_system) between 1 and 200),
  status          text        not null,
  customer_id     text        not null,
  currency        text        not null check (currency ~ '^[A-Z]{3}$'),
  amount          bigint      not null check (amount > 0),
  failure         text,
  created_at      timestamptz not null default clock_timestamp(),
  changed_at      timestamptz not null default clock_timestamp(),
  unique (payment_id, idempotency_key, source_system),
  constraint payments_status_is_known check (status in ('pending', 'authorised', 'captured', 'refunded', 'failed')),
  constraint payments_say_why_they_failed check ((status = 'failed') = (failure is not null))
);
comment on table payment.payments is 'One payment for each order; a row also where it was cancelled before it was asked for.';

-- Double entry: each booking of a payment has rows in two or more accounts, and their sum is zero.
create table payment.ledger (
  payment_id uuid        not null references payment.payments,
  booking    text        not null check (booking in ('capture', 'refund')),
  account    text        not null check (account in ('provider', 'sales')),
  currency   text        not null check (currency ~ '^[A-Z]{3}$'),
  amount     bigint      not null check (amount <> 0), -- debit above zero, credit below
  booked_at  timestamptz not null default clock_timestamp(),
  -- Also what makes a second capture or refund of one payment impossible.
  primary key (payment_id, booking, account)
);

create function payment.check_booking() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  changed record := coalesce(new, old);
begin
  if (select coalesce(sum(amount), 0) <> 0 or count(distinct currency) > 1 from payment.ledger
       where payment_id = changed.payment_id and booking = changed.booking) then
    raise exception 'the % of payment % does not balance', changed.booking, changed.payment_id using errcode = '23514';
  end if;
  return null;
end
$$;
-- At the commit, when all rows of a booking are there.
create constraint trigger ledger_balances after insert or update or delete on payment.ledger
  deferrable initially deferred for each row execute function payment.check_booking();

grant usage on schema payment to ferry_consumer, ferry_reader;
grant select, insert, update on payment.payments to ferry_consumer;
grant select, insert on payment.ledger to ferry_consumer;
grant select on all tables in schema payment to ferry_reader;
