-- An order's fulfilment confirms it and ends it: completed, or cancelled. These are commands that a consumer carries out.
alter table commerce.orders drop constraint orders_status_check;
alter table commerce.orders add constraint orders_status_check check (status in ('placed', 'confirmed', 'completed', 'cancelled'));

grant select, update on commerce.orders, commerce.customers to ferry_consumer;
grant select on commerce.order_lines to ferry_consumer;
grant insert (principal, action, subject, event_id, request_id, reason) on ferry.audit to ferry_consumer;
