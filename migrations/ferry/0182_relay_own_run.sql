-- What a relay notes here only its newest run may note: one that has lost the slot may learn of it only when Kafka refuses its next commit.
create function ferry.own_run(relay_name text, own bigint) returns text
language plpgsql as $$
begin
  -- The lock makes the next start wait, which counts its run before it looks at the notes; and this waits for a start that is being counted.
  perform from ferry.relay_run where relay = relay_name and run = own for share;
  if not found then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('run %s of relay %s is over: another has begun', own, relay_name);
  end if;
  return relay_name;
end
$$;
comment on function ferry.own_run(text, bigint) is 'The relay''s name, in a statement that only its newest run may make; an error in any other.';
revoke execute on function ferry.own_run(text, bigint) from public;
grant execute on function ferry.own_run(text, bigint) to ferry_relay;
