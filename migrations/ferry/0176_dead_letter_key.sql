-- By the digest of the key: an entry of an index takes some 2,700 bytes, a key of Kafka any number, and one letter that the index refuses keeps
-- all letters behind it out of the store.
drop index ferry.dead_letter_by_key;
create index dead_letter_by_key on ferry.dead_letter (sha256(key));
