-- What a store holds after a quiet day: some watches, none of them open. The plans that PostgreSQL made are from then.

-- The id of row number `n`, of a watch or of an event, in 16 bytes that sort by the number.
CREATE FUNCTION id(n BIGINT) RETURNS BYTEA LANGUAGE sql IMMUTABLE
    RETURN decode('01' || lpad(n::text, 30, '0'), 'hex');
CREATE FUNCTION job(n BIGINT) RETURNS TEXT LANGUAGE sql IMMUTABLE
    RETURN 'job-' || lpad(n::text, 7, '0');
CREATE FUNCTION client_of(watch BIGINT) RETURNS BIGINT LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN watch % 2 = 0 AND watch <= 700000 THEN 1 ELSE watch % 97 + 2 END;

-- The ids of `many` rows from number `first` on.
CREATE FUNCTION ids(first BIGINT, many BIGINT) RETURNS BYTEA[] LANGUAGE sql IMMUTABLE
    RETURN (SELECT array_agg(id(n) ORDER BY n) FROM generate_series(first, first + many - 1) n);
CREATE FUNCTION jobs(first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN (SELECT array_agg(job(n) ORDER BY n) FROM generate_series(first, first + many - 1) n);
-- The jobs of open watches.
CREATE FUNCTION watched_jobs(first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN (SELECT array_agg(job(920001 + n % 80000) ORDER BY n) FROM generate_series(first, first + many - 1) n);

-- The first row of those that make a store full.
CREATE FUNCTION first() RETURNS BIGINT LANGUAGE sql STABLE RETURN current_setting('test.first')::bigint;

-- Lists of one value.
CREATE FUNCTION texts(value TEXT, many INT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN array_fill(value, ARRAY[many]);
CREATE FUNCTION bytes(value BYTEA, many INT) RETURNS BYTEA[] LANGUAGE sql IMMUTABLE
    RETURN array_fill(value, ARRAY[many]);
CREATE FUNCTION numbers(value BIGINT, many INT) RETURNS BIGINT[] LANGUAGE sql IMMUTABLE
    RETURN array_fill(value, ARRAY[many]);

-- The test itself says when PostgreSQL looks at what is in the tables.
DO $$
DECLARE name TEXT;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', name);
    END LOOP;
END $$;

-- Without foreign keys and triggers: what is written here fits together.
SET session_replication_role = replica;

INSERT INTO jobs (job_id, memory, user_id, connection_id)
    SELECT 'idle-' || md5(n::text), '{}', 'user-idle-' || n, 'connection-idle-' || n
    FROM generate_series(1, 100) n;

INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at, settled_at)
    SELECT decode(lpad(n::text, 32, '0'), 'hex'), 1, 'idle-' || md5(n::text), 'https://host1.example/hooks',
        'host1.example', 15, 'en', '{}', 'settled', '{"transitions":1,"sequence":1}', n, n, n
    FROM generate_series(1, 100) n;

INSERT INTO events (event_id, source_id, client_id, state, updated_at, created_at, attempts, body)
    SELECT watch_id, watch_id, 1, 'delivered', created_at, created_at, '[]', '{}' FROM watches;

INSERT INTO subscriptions (subscription_id, client_id, user_id, callback_url, callback_host, events, notices, locale,
        metadata, created_at)
    SELECT decode(lpad(n::text, 32, 'a'), 'hex'), 1, 'user-idle-' || n, 'https://host1.example/hooks',
        'host1.example', 15, 63, 'en', '{}', n
    FROM generate_series(1, 100) n;

-- Work of all kinds came and went.
INSERT INTO due_jobs (job_id, next_look_at, urgency, joined) SELECT job_id, 1, 3, FALSE FROM jobs;
DELETE FROM due_jobs;
INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash)
    SELECT 1, 'watching', watch_id, job_id, '' FROM watches;
DELETE FROM unsettled_watches;
INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since)
    SELECT source_id, event_id, 1, 'host1.example', 1, 1 FROM events;
DELETE FROM outbox;
INSERT INTO due_lists (user_id, next_list_at) SELECT 'user-' || n, 1 FROM generate_series(1, 100) n;
DELETE FROM due_lists;

SET session_replication_role = origin;
