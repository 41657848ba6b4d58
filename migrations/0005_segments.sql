-- A chunk table may be in segments (docs/architecture.md): after how many rows one is sealed, NULL where it is one plain
-- table; and the segment that takes new rows.
ALTER TABLE generations
    ADD COLUMN segment_rows integer,
    ADD COLUMN hot_segment  integer;

-- Each segment is a table of its own. `rows` is what it had when its vector index was built, NULL before. `merges` names
-- the segments that it will replace; until it does it is no part of the chunk table.
CREATE TABLE segments (
    generation integer NOT NULL REFERENCES generations,
    segment    integer NOT NULL,
    rows       bigint,
    merges     integer[],
    made_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, segment)
);
