-- Which publication the slot of an epoch is read by: one that was dropped and made anew is another. Null in epochs that are older than
-- this column.
alter table ferry.relay_epoch add column publication text;
