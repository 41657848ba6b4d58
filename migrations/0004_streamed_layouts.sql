-- The layouts (as `documents.layout`) of a source's first and of its last change, and when that one was committed: a
-- snapshot has columns that no change has (generated ones, and those that the publication leaves out).
ALTER TABLE tables
    ADD COLUMN first_layout      bytea,
    ADD COLUMN last_layout       bytea,
    ADD COLUMN last_layout_ts_us bigint;
