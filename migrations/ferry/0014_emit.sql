-- One event from any language: select ferry.emit('order', '42', 'shop.OrderPaid', '{"orderId": "42"}');
-- With the rights of the owner, so that an application needs no right on the table.
create function ferry.emit(aggregatetype text, aggregateid text, type text, payload jsonb, headers jsonb default '{}')
returns uuid
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  insert into ferry.outbox (aggregatetype, aggregateid, type, payload, headers)
  values (aggregatetype, aggregateid, type, payload, headers)
  returning id
$$;
comment on function ferry.emit(text, text, text, jsonb, jsonb) is 'Writes one event into the outbox, in this transaction; returns its id.';
revoke execute on function ferry.emit(text, text, text, jsonb, jsonb) from public;
grant execute on function ferry.emit(text, text, text, jsonb, jsonb) to ferry_writer;
