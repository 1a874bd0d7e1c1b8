-- The version of each aggregate whose events Ferry counts (HTTP API, TypeScript kit with aggregateVersion 'next'): 1, 2, 3, … without a
-- gap. The row's lock, held to the end of the transaction, makes the order of versions the order of commits.
create table ferry.aggregate (
  aggregatetype text   not null,
  aggregateid   text   not null,
  version       bigint not null check (version > 0),
  primary key (aggregatetype, aggregateid)
) with (fillfactor = 80); -- room for updates in place

create function ferry.next_aggregate_version(aggregatetype text, aggregateid text) returns bigint
language sql volatile security definer
set search_path = pg_catalog, pg_temp as $$
  insert into ferry.aggregate as known (aggregatetype, aggregateid, version) values ($1, $2, 1)
  on conflict on constraint aggregate_pkey do update set version = known.version + 1
  returning version
$$;
revoke execute on function ferry.next_aggregate_version(text, text) from public;
grant execute on function ferry.next_aggregate_version(text, text) to ferry_writer;
-- A writer may learn the number that its own insert was given.
grant select (id, aggregateversion) on ferry.outbox to ferry_writer;
