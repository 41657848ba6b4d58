-- Which columns are a source's key: a jsonb object of their names, each with the kind of its values (null: not known).
-- `keyed_since_us` is the commit time of the first event under this key, where the source had another one before; events
-- under that one which are not later are dropped. `next_…` is a change under which events fail: `rekey` accepts it.
ALTER TABLE tables
    ALTER COLUMN truncated_ts_us DROP NOT NULL,
    ADD COLUMN key_columns         jsonb,
    ADD COLUMN keyed_since_us      bigint,
    ADD COLUMN next_key_columns    jsonb,
    ADD COLUMN next_keyed_since_us bigint;
