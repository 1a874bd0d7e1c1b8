-- Sagas: one row an instance, which is also its lock and its timer; one a step; and a history that is only added to. A transition, the next
-- command (a row of the outbox), the timer and the history are written in one transaction (src/saga/store.ts).

-- The structure of each version, so that a running instance never goes on with another one.
create table ferry.saga_definition (
  name          text        not null,
  version       int         not null,
  checksum      text        not null,
  registered_at timestamptz not null default clock_timestamp(),
  primary key (name, version)
);
comment on table ferry.saga_definition is 'Versions of sagas that were registered, each with the checksum of its structure.';

create table ferry.saga (
  id             uuid        not null primary key,
  name           text        not null,
  version        int         not null,
  key            text        not null,
  state          text        not null,
  data           jsonb       not null,
  step           text,
  tries          int         not null default 0,
  cancelling     boolean     not null default false,
  due_at         timestamptz,
  timer_failures int         not null default 0,
  error_code     text,
  error          text,
  traceparent    text,
  started_at     timestamptz not null default clock_timestamp(),
  changed_at     timestamptz not null default clock_timestamp(),
  ended_at       timestamptz,
  foreign key (name, version) references ferry.saga_definition,
  constraint saga_key_is_started_once unique (name, key),
  constraint saga_state_is_known check (
    state in ('running', 'compensating', 'stuck', 'compensation_failed', 'completed', 'compensated')),
  constraint saga_key_length check (octet_length(key) between 1 and 512)
) with (fillfactor = 80); -- room for updates in place
-- Only what waits for a time is in it: thousands of ended sagas cost the timers nothing.
create index saga_due on ferry.saga (due_at) where due_at is not null;
create index saga_by_state on ferry.saga (state, id);
create index saga_by_version on ferry.saga (name, version) where ended_at is null;

comment on table ferry.saga is 'Instances of sagas; the row''s lock puts replies, timers and operators in order.';
comment on column ferry.saga.key is 'What it is about (an order id), and the aggregate id of its commands.';
comment on column ferry.saga.step is 'The step that it waits for; null when it has ended.';
comment on column ferry.saga.tries is 'How often that step''s command was sent since it was last given all its tries.';
comment on column ferry.saga.cancelling is 'To be undone as soon as the step in flight is answered.';
comment on column ferry.saga.due_at is 'When to look again without a reply; null: never.';
comment on column ferry.saga.timer_failures is 'How often in a row its timer failed; it is set aside for longer each time.';
comment on column ferry.saga.error is 'Why it is undone or waits; may hold a participant''s words.';

create table ferry.saga_step (
  saga_id      uuid        not null references ferry.saga on delete cascade,
  step         text        not null,
  state        text        not null,
  attempt      int         not null,
  undo_attempt int         not null,
  changed_at   timestamptz not null default clock_timestamp(),
  primary key (saga_id, step),
  constraint saga_step_state_is_known check (
    state in ('pending', 'sent', 'done', 'refused', 'unknown', 'undoing', 'undone', 'undo_failed', 'skipped'))
) with (fillfactor = 80);
comment on table ferry.saga_step is 'Steps of an instance whose turn has come.';
comment on column ferry.saga_step.attempt is 'Number of the last command sent to do it; 0 for a step that was done before the saga.';

create table ferry.saga_history (
  id         bigint      generated always as identity primary key,
  saga_id    uuid        not null, -- no foreign key: it would cost a look-up a row, and a history outlives what it tells of
  at         timestamptz not null default clock_timestamp(),
  cause      text        not null,
  step       text,
  from_state text,
  to_state   text        not null,
  purpose    text,
  attempt    int,
  event_id   uuid,
  actor      text,
  reason     text,
  constraint saga_history_cause_is_known check (
    cause in ('start', 'command', 'reply', 'late-reply', 'timeout', 'operator', 'set-aside'))
);
create index saga_history_by_saga on ferry.saga_history (saga_id, id);
comment on table ferry.saga_history is 'Every transition of every saga, insert-only; step null: of the instance. From = to: something that changed nothing.';
comment on column ferry.saga_history.event_id is 'The command that was sent, or the reply that came.';
create trigger saga_history_insert_only before update or delete on ferry.saga_history
  for each row execute function ferry.refuse_change();
create trigger saga_history_no_truncate before truncate on ferry.saga_history
  for each statement execute function ferry.refuse_change();

-- Consumers run sagas; operators act on them through the API. Both send commands.
do $$
begin
  if not pg_has_role('ferry_consumer', 'ferry_writer', 'member') then
    grant ferry_writer to ferry_consumer;
  end if;
exception when unique_violation then
  null; -- another database's migration was faster: roles belong to the cluster
end
$$;
grant select, insert, update on ferry.saga, ferry.saga_step to ferry_consumer, ferry_api;
grant select, insert on ferry.saga_history, ferry.saga_definition to ferry_consumer, ferry_api;
grant select on ferry.saga, ferry.saga_step, ferry.saga_history, ferry.saga_definition to ferry_reader;
