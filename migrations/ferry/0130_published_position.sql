-- How far a relay has published, for those who wait until a position is (src/inbox/position-gate.ts).
grant select on ferry.relay_progress to ferry_reader, ferry_api;
