-- The audit as a chain: each row gets a link with a hash over the link before it and over the row, so that a row that is changed, taken out,
-- slipped in or moved afterwards, by whomever, no longer fits (src/audit/chain.ts walks it). What operators do is linked in its own
-- transaction; what applications do is a plain insert and linked by a sealer within seconds, so that orders never wait for each other. The
-- hashes are made here, so every writer gets the same. Nobody but the owner can write a link in another way than by these functions.

create table ferry.audit_link (
  position  bigint      primary key check (position > 0),
  audit_id  bigint      not null unique,
  linked_at timestamptz not null,
  hash      bytea       not null check (octet_length(hash) = 32)
);
comment on table ferry.audit_link is 'The chain over ferry.audit: positions without a gap, one link a row, in the order of linking.';
comment on column ferry.audit_link.hash is 'ferry.audit_hash of the hash before (32 zero bytes at position 1), this link and its row.';
create trigger audit_link_insert_only before update or delete on ferry.audit_link
  for each row execute function ferry.refuse_change();
create trigger audit_link_no_truncate before truncate on ferry.audit_link
  for each statement execute function ferry.refuse_change();

-- Rows that have no link yet. A queue, and not "all rows above the last one": ids become visible out of their order, and a row that somebody
-- slips in with the triggers off is not in it, so it never gets a link and is found.
create table ferry.audit_unlinked (
  audit_id bigint primary key
);
comment on table ferry.audit_unlinked is 'Rows of ferry.audit that the sealer has still to link.';

create function ferry.audit_queue() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  insert into ferry.audit_unlinked select id from written;
  return null;
end
$$;
create trigger audit_queue after insert on ferry.audit
  referencing new table as written for each statement execute function ferry.audit_queue();
insert into ferry.audit_unlinked select id from ferry.audit;

-- A text with its length in bytes before it, -1 for null: no two lists of texts have the same bytes.
create function ferry.audit_field(value text) returns bytea
language sql immutable parallel safe as $$
  select coalesce(int4send(octet_length(convert_to(value, 'UTF8'))) || convert_to(value, 'UTF8'), int4send(-1))
$$;

-- SHA-256 over the hash before, then position, time of linking, and the row's columns. Times are microseconds since 1970. A column that is
-- added to ferry.audit one day goes to the end, and only where it is not null: then what was linked before keeps its hash.
create function ferry.audit_hash(previous bytea, place bigint, linked_at timestamptz, entry ferry.audit) returns bytea
language sql stable parallel safe as $$
  select sha256(
    previous
    || ferry.audit_field(place::text)
    || ferry.audit_field((extract(epoch from linked_at) * 1000000)::bigint::text)
    || ferry.audit_field(entry.id::text)
    || ferry.audit_field((extract(epoch from entry.at) * 1000000)::bigint::text)
    || ferry.audit_field(entry.principal)
    || ferry.audit_field(entry.action)
    || ferry.audit_field(entry.subject)
    || ferry.audit_field(entry.event_id::text)
    || ferry.audit_field(entry.request_id)
    || ferry.audit_field(entry.reason))
$$;

-- Links these rows in their order and takes them out of the queue; returns how many. The caller holds the chain's lock.
create function ferry.link_audit(ids bigint[]) returns int
language plpgsql as $$
declare
  head_position bigint;
  head_hash bytea;
  moment timestamptz := clock_timestamp();
  entry ferry.audit;
  linked bigint[] := '{}';
  hashes bytea[] := '{}';
begin
  select position, hash into head_position, head_hash from ferry.audit_link order by position desc limit 1;
  head_position := coalesce(head_position, 0);
  head_hash := coalesce(head_hash, decode(repeat('00', 32), 'hex'));
  for entry in select * from ferry.audit where id = any (ids) order by id loop
    linked := linked || entry.id;
    head_hash := ferry.audit_hash(head_hash, head_position + cardinality(linked), moment, entry);
    hashes := hashes || head_hash;
  end loop;
  insert into ferry.audit_link (position, audit_id, linked_at, hash)
  select head_position + place, id, moment, link_hash
  from unnest(linked, hashes) with ordinality as link (id, link_hash, place);
  delete from ferry.audit_unlinked where audit_id = any (linked);
  return cardinality(linked);
end
$$;

-- Links up to `most` rows that are committed and not linked. Null: somebody else is linking right now.
create function ferry.seal_audit(most int) returns int
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if most is null or most not between 1 and 100000 then
    raise exception using errcode = '22023', message = format('most is %s; it takes 1 to 100000', most);
  end if;
  if not pg_try_advisory_xact_lock(hashtextextended('ferry.audit chain', 0)) then
    return null;
  end if;
  return ferry.link_audit(array(
    select audit_id from ferry.audit_unlinked join ferry.audit on audit.id = audit_id order by audit_id limit most));
end
$$;
comment on function ferry.seal_audit(int) is 'Links what is committed and not yet linked; returns how many rows, null while another does it.';

-- What an operator does: the row and its link in the caller's transaction. From here to the commit all others who do so wait: call it last.
-- Needs READ COMMITTED: a snapshot from before the wait would not see the link it follows (and fail with 23505).
create function ferry.audit_operation(
  principal text, action text, subject text, event_id uuid, request_id text, reason text
) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  written bigint;
begin
  perform pg_advisory_xact_lock(hashtextextended('ferry.audit chain', 0));
  insert into ferry.audit (principal, action, subject, event_id, request_id, reason)
  values ($1, $2, $3, $4, $5, $6) returning id into written;
  perform ferry.link_audit(array[written]);
  return written;
end
$$;
comment on function ferry.audit_operation(text, text, text, uuid, text, text) is 'Writes an operator''s audit row and its link; returns its id.';

revoke execute on function ferry.audit_queue(), ferry.audit_field(text), ferry.audit_hash(bytea, bigint, timestamptz, ferry.audit),
  ferry.link_audit(bigint[]), ferry.seal_audit(int), ferry.audit_operation(text, text, text, uuid, text, text) from public;
grant execute on function ferry.seal_audit(int), ferry.audit_operation(text, text, text, uuid, text, text) to ferry_api;
grant select on ferry.audit to ferry_api;
grant select on ferry.audit_link, ferry.audit_unlinked to ferry_reader, ferry_api;
