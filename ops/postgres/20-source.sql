-- The source database: tables in schema public, owned by shop_owner, captured by Debezium.
\set ON_ERROR_STOP on
\set VERBOSITY terse

SELECT 'CREATE DATABASE shop' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'shop')
\gexec
\connect shop

REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO debezium;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO shop_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO shop_owner;

-- SELECT is what the snapshot needs, on tables of today and of tomorrow.
GRANT USAGE ON SCHEMA public TO debezium;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;
ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA public GRANT SELECT ON TABLES TO debezium;

-- Made here, because FOR TABLES IN SCHEMA is a superuser's right that the connector's role must not have.
-- With generated columns where the server can: docs/snapshots.md says what becomes of those that are not published.
SELECT 'CREATE PUBLICATION dbz_publication FOR TABLES IN SCHEMA public'
    || CASE WHEN current_setting('server_version_num')::int >= 180000
            THEN ' WITH (publish_generated_columns = stored)' ELSE '' END
WHERE NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'dbz_publication')
\gexec
