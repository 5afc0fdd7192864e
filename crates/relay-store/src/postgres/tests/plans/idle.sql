-- What a store holds after a quiet day: some watches, none of them open. The plans that PostgreSQL made are from then.

-- The ids of `many` rows from number `first` on.
CREATE FUNCTION ids(prefix TEXT, width INT, first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN (SELECT array_agg(prefix || lpad(n::text, width, '0') ORDER BY n)
        FROM generate_series(first, first + many - 1) n);
CREATE FUNCTION jobs(first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN ids('job-', 7, first, many);
CREATE FUNCTION watches(first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN ids('wch_01', 24, first, many);
CREATE FUNCTION events(first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN ids('evt_01', 24, first, many);
CREATE FUNCTION deliveries(first BIGINT, many BIGINT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
    RETURN ids('dlv_01', 24, first, many);

-- The first row of those that make a store full.
CREATE FUNCTION first() RETURNS BIGINT LANGUAGE sql STABLE RETURN current_setting('test.first')::bigint;

-- Lists of one value.
CREATE FUNCTION texts(value TEXT, many INT) RETURNS TEXT[] LANGUAGE sql IMMUTABLE
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

INSERT INTO jobs (job_id, urgency, joined, memory, user_id, connection_id)
    SELECT 'idle-' || md5(n::text), 3, FALSE, '{}', 'user-idle-' || n, 'connection-idle-' || n
    FROM generate_series(1, 100) n;

INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at, settled_at)
    SELECT 'wch_00' || lpad(n::text, 24, '0'), 1, 'idle-' || md5(n::text), 'https://host1.example/hooks',
        'host1.example', 15, 'en', '{}', 'watching', '{"transitions":1,"sequence":1}', n, n, NULL
    FROM generate_series(1, 100) n;

-- Each was entered among the open ones.
UPDATE watches SET state = 'settled', settled_at = updated_at;

INSERT INTO events (event_id, watch_id, body, created_at)
    SELECT 'evt_00' || lpad(n::text, 24, '0'), 'wch_00' || lpad(n::text, 24, '0'), '{}', n
    FROM generate_series(1, 100) n;

INSERT INTO deliveries (delivery_id, event_id, watch_id, client_id, host, state, attempts, round_attempts,
        updated_at)
    SELECT 'dlv_00' || lpad(n::text, 24, '0'), 'evt_00' || lpad(n::text, 24, '0'),
        'wch_00' || lpad(n::text, 24, '0'), 1, 'host1.example', 'delivered', 1, 1, n
    FROM generate_series(1, 100) n;

INSERT INTO attempts (delivery_id, number, lease_id, started_at, duration, status)
    SELECT 'dlv_00' || lpad(n::text, 24, '0'), 1, 'lse_01ARZ3NDEKTSV4RRFFQ69G5FAV', n, 40, 204
    FROM generate_series(1, 100) n;

SET session_replication_role = origin;
