-- Documents, progress, failures. Chunk tables are made per generation, by the same command.
-- Texts that are only compared for equality carry COLLATE "C": an index probe is then a memcmp.

-- One vector space each: what made its vectors, and the table that holds them.
CREATE TABLE generations (
    generation      integer PRIMARY KEY,
    state           text        NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    config_hash     bytea       NOT NULL,
    config          jsonb       NOT NULL,
    model           text        NOT NULL,
    dimension       integer     NOT NULL,
    element         text        NOT NULL CHECK (element IN ('vector', 'halfvec')),
    metric          text        NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip')),
    m               integer     NOT NULL,
    ef_construction integer     NOT NULL,
    chunk_table     text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX generations_one_live ON generations ((true)) WHERE state = 'live';

-- One row per source row, gravestones included. No column that an update changes is in an index, and pages keep
-- room: every update is HOT. `fields` and `metadata` are json, not jsonb: read back byte for byte, and \u0000 is allowed.
CREATE TABLE documents (
    document_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source              text COLLATE "C" NOT NULL,
    key_hash            bytea   NOT NULL CHECK (length(key_hash) = 16),
    source_key          jsonb   NOT NULL,
    state               text    NOT NULL CHECK (state IN ('embedded', 'failed', 'deleted')),
    fields              json,
    fields_complete     boolean NOT NULL,
    fields_hash         bytea,
    table_hash          bytea,
    content_hash        bytea,
    metadata            json,
    awaits              bytea,
    generation          integer,
    kafka_topic         text COLLATE "C" NOT NULL,
    topic_id            text COLLATE "C" NOT NULL,
    kafka_partition     integer NOT NULL,
    kafka_offset        bigint  NOT NULL,
    sequence_commit     bigint,
    sequence_lsn        bigint,
    source_ts_us        bigint,
    snapshot            boolean NOT NULL,
    -- NULL for a time that the type does not reach: a failed document must be storable whatever its event says.
    source_committed_at timestamptz GENERATED ALWAYS AS (
        CASE WHEN source_ts_us BETWEEN -210000000000000000 AND 9223371331199999999
             THEN to_timestamp(source_ts_us / 1000000.0) END
    ) STORED,
    version             bigint  NOT NULL,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    -- The hash leads: it decides alone, the source is compared once.
    CONSTRAINT documents_one_per_key UNIQUE (key_hash, source),
    CONSTRAINT documents_gravestone_is_empty CHECK (
        state <> 'deleted'
        OR (fields IS NULL AND fields_hash IS NULL AND table_hash IS NULL AND content_hash IS NULL AND metadata IS NULL)
    )
) WITH (fillfactor = 80);

CREATE INDEX documents_awaiting ON documents (awaits) WHERE awaits IS NOT NULL;

-- Progress. The fence of every transaction is an update of these rows.
CREATE TABLE offsets (
    group_id    text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    topic_id    text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    epoch       bigint  NOT NULL,
    next_offset bigint  NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 50);

-- Last heartbeat of a connector: the commit time at its source up to which everything is applied.
CREATE TABLE heartbeats (
    topic_prefix text COLLATE "C" PRIMARY KEY,
    ts_us        bigint NOT NULL,
    ts           timestamptz GENERATED ALWAYS AS (
        CASE WHEN ts_us BETWEEN -210000000000000000 AND 9223371331199999999 THEN to_timestamp(ts_us / 1000000.0) END
    ) STORED,
    updated_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The last truncate of a source: what is older may not come back, whichever partition it arrives through.
CREATE TABLE tables (
    source             text COLLATE "C" PRIMARY KEY,
    truncated_commit   bigint,
    truncated_lsn      bigint,
    truncated_ts_us    bigint NOT NULL,
    truncated_at       timestamptz GENERATED ALWAYS AS (
        CASE WHEN truncated_ts_us BETWEEN -210000000000000000 AND 9223371331199999999
             THEN to_timestamp(truncated_ts_us / 1000000.0) END
    ) STORED
);

-- What a document was when its key changed, left by the delete for the insert under the new key. The id is a hash of
-- both keys and the place in the source's order; `awaits` names an earlier key change that may bring missing fields.
CREATE TABLE moves (
    move_id      bytea       PRIMARY KEY CHECK (length(move_id) = 16),
    fields       json        NOT NULL,
    awaits       bytea,
    generation   integer     NOT NULL,
    chunk_hashes bytea[]     NOT NULL,
    vectors      bytea[]     NOT NULL,
    left_at      timestamptz NOT NULL DEFAULT now()
);

-- What could not be applied, and when it is tried again. Without a key there is no document: the event stands for itself.
CREATE TABLE failed_documents (
    failure_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source          text COLLATE "C" NOT NULL,
    key_hash        bytea CHECK (length(key_hash) = 16),
    source_key      jsonb,
    kafka_topic     text COLLATE "C" NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint  NOT NULL,
    stage           text    NOT NULL,
    error_type      text    NOT NULL,
    error           text    NOT NULL,
    attempts        integer NOT NULL DEFAULT 1,
    first_failed_at timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz,
    state           text    NOT NULL CHECK (state IN ('retrying', 'dead')),
    CHECK ((state = 'dead') = (next_attempt_at IS NULL))
);
CREATE UNIQUE INDEX failed_documents_key ON failed_documents (key_hash, source) WHERE key_hash IS NOT NULL;
CREATE UNIQUE INDEX failed_documents_event ON failed_documents (kafka_topic, kafka_partition, kafka_offset)
    WHERE key_hash IS NULL;
CREATE INDEX failed_documents_due ON failed_documents (next_attempt_at) WHERE state = 'retrying';
