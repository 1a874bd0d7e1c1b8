-- Operators say why.
alter table ferry.audit add column reason text;
grant insert (reason) on ferry.audit to ferry_api;
