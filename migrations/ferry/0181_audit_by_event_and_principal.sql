-- The two questions about the audit that read all of it (1,000,000 rows: 300 ms, growing for ever): which operator touched this event, asked
-- with each event's way, and what somebody did who seldom does anything. A row has a third more WAL by them (577 to 774 bytes); the time of an
-- insert differs by less than it varies. Making them holds up who writes to the audit while it is read twice.
create index audit_by_event on ferry.audit (event_id) where event_id is not null;
create index audit_by_principal on ferry.audit (principal, id);
