-- What the relay reads: inserts only, and rows of all partitions as rows of ferry.outbox. It must exist before the slot: a slot that
-- is older than its publication fails for ever on Postgres 15 to 17 and drops rows silently on 18. ./ferry migrate calls this with
-- PUBLICATION_NAME. Returns whether it made it.
create function ferry.ensure_publication(name text) returns boolean
language plpgsql as $$
begin
  if exists (select from pg_publication where pubname = name) then
    return false;
  end if;
  execute format(
    'create publication %I for table ferry.outbox with (publish = ''insert'', publish_via_partition_root = true)', name);
  return true;
end
$$;
revoke execute on function ferry.ensure_publication(text) from public;
