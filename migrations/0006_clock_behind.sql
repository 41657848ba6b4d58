-- How far the clock of the connector's source is behind, as its heartbeats tell (observe/skew.py).
ALTER TABLE heartbeats ADD COLUMN behind_us bigint NOT NULL DEFAULT 0;
