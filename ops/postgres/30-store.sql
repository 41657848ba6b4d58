-- The store: the schema (STORE_SCHEMA, by default `embedding`) belongs to embedding_migrator, who fills it by `migrate`.
\set ON_ERROR_STOP on
\set VERBOSITY terse
\set schema embedding
\getenv schema STORE_SCHEMA

SELECT 'CREATE DATABASE vectors' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'vectors')
\gexec
\connect vectors

CREATE EXTENSION IF NOT EXISTS vector;

REVOKE ALL ON DATABASE vectors FROM PUBLIC;
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE vectors TO embedding_migrator;
GRANT CONNECT, TEMPORARY ON DATABASE vectors TO embedder;
GRANT CONNECT ON DATABASE vectors TO embedding_reader;

-- Whatever the migrator creates, in this schema or in one of another name, the writer may fill and the reader may read.
ALTER DEFAULT PRIVILEGES FOR ROLE embedding_migrator GRANT USAGE ON SCHEMAS TO embedder, embedding_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE embedding_migrator GRANT SELECT, INSERT, UPDATE, DELETE, MAINTAIN ON TABLES TO embedder;
ALTER DEFAULT PRIVILEGES FOR ROLE embedding_migrator GRANT SELECT ON TABLES TO embedding_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE embedding_migrator GRANT USAGE, SELECT ON SEQUENCES TO embedder;

-- Old versions that no vacuum has removed yet would take the places of hits: the reader's queries go on behind them.
ALTER ROLE embedding_reader IN DATABASE vectors SET hnsw.iterative_scan = 'strict_order';

CREATE SCHEMA IF NOT EXISTS :"schema" AUTHORIZATION embedding_migrator;
GRANT USAGE ON SCHEMA :"schema" TO embedder, embedding_reader;
