-- Who looks at a saga sees where its commands and replies are, but not what is in them: the payloads are no business of the API's.
grant select (id, aggregatetype, aggregateid, type, traceparent, inserted_lsn) on ferry.outbox to ferry_api;
