-- The day is read from the partition's own name only: `where day < …` on the view as it was could be evaluated for every table that there is,
-- and failed with 22007 on names that hold no date, so that no old day was ever dropped. CASE is evaluated after the join that it refers to.
create or replace view ferry.inbox_day as
select c.oid::regclass as partition,
       case when i.inhparent = 'ferry.inbox'::regclass then to_date(right(c.relname, 8), 'YYYYMMDD') end as day
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'ferry.inbox'::regclass;
