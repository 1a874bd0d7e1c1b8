-- Replays read the outbox in the order of insertion, a page at a time and across all partitions; so does a relay that publishes what is
-- older than its slot. Writers wait while it is made.
create index outbox_by_seq on ferry.outbox (seq);
