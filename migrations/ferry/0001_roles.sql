-- Group roles, to be granted to the login roles of applications, readers, the API and the relay. Roles belong to the cluster, not to
-- the database: they may be there already, or be made by another database's migration at this moment.
do $$
declare
  wanted text;
begin
  foreach wanted in array array['ferry_writer', 'ferry_reader', 'ferry_api', 'ferry_relay'] loop
    begin
      if not exists (select from pg_roles where rolname = wanted) then
        execute format('create role %I nologin', wanted);
      end if;
    exception when duplicate_object or unique_violation then
      null; -- the other one was faster
    end;
  end loop;
  -- The API writes events as any application does, and reads their status.
  begin
    if not pg_has_role('ferry_api', 'ferry_writer', 'member') then
      grant ferry_writer to ferry_api;
    end if;
  exception when unique_violation then
    null;
  end;
end
$$;

grant usage on schema ferry to ferry_writer, ferry_reader, ferry_api, ferry_relay;
