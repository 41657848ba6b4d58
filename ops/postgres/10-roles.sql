-- The roles of one installation. Run by psql as a superuser, in the order of the file names; safe to run again.
-- Passwords come from the environment, never from an argument: DEBEZIUM_PASSWORD, SHOP_OWNER_PASSWORD, MIGRATOR_PASSWORD,
-- EMBEDDER_PASSWORD, READER_PASSWORD.
--
--   debezium            reads the source: REPLICATION, SELECT on the captured schema, nothing else
--   shop_owner          owns the source tables (stands for your application)
--   embedding_migrator  owns the schema of the vectors: `embed-consumer migrate`
--   embedder            writes the vectors: `embed-consumer --group …`
--   embedding_reader    reads them: search, dashboards
\set ON_ERROR_STOP on
-- An error must show neither the statement nor its line: both would hold a password.
\set VERBOSITY terse
SET log_min_error_statement = 'panic';
SET log_statement = 'none';
SET log_min_duration_statement = -1;

\getenv debezium_password DEBEZIUM_PASSWORD
\getenv shop_owner_password SHOP_OWNER_PASSWORD
\getenv migrator_password MIGRATOR_PASSWORD
\getenv embedder_password EMBEDDER_PASSWORD
\getenv reader_password READER_PASSWORD

SELECT format('CREATE ROLE %I', wanted)
FROM unnest(ARRAY['debezium', 'shop_owner', 'embedding_migrator', 'embedder', 'embedding_reader']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
\gexec

ALTER ROLE debezium LOGIN REPLICATION PASSWORD :'debezium_password';
ALTER ROLE shop_owner LOGIN PASSWORD :'shop_owner_password';
ALTER ROLE embedding_migrator LOGIN PASSWORD :'migrator_password';
ALTER ROLE embedder LOGIN PASSWORD :'embedder_password';
ALTER ROLE embedding_reader LOGIN PASSWORD :'reader_password';

-- Only its owner may index a table; MAINTAIN does not cover it. The consumer builds the HNSW index after the first load, so
-- the writer may become the owner, but only by saying so (SET ROLE, for that one build): everything else it does runs with
-- its own few rights. Where that is too much, revoke this line and build the index as embedding_migrator.
GRANT embedding_migrator TO embedder WITH INHERIT FALSE, SET TRUE;
