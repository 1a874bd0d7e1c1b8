-- What a relay that does not own the schema needs beside the attribute REPLICATION and the outbox itself.
grant select, insert, update, delete on ferry.relay_epoch, ferry.relay_run, ferry.relay_progress, ferry.relay_dead_letter to ferry_relay;
