-- A store after a busy month: a million jobs, watches and events. Rows are numbered as they
-- came, the last one at 1800000000000 ms, each 2592 ms after the one before. Those before `test.first` are left out.

-- Without foreign keys and triggers: what is written here fits together.
SET session_replication_role = replica;

DELETE FROM events;
DELETE FROM watches;
DELETE FROM jobs;

INSERT INTO clients (name, key_hash, secret, created_at, revoked_at)
    SELECT 'client' || n, sha256(n::text::bytea), 'sealed', 0, CASE WHEN n % 20 = 0 THEN 1 END
    FROM generate_series(1, 100) n;

INSERT INTO jobs (job_id, memory, user_id, connection_id)
    SELECT job(n), '{"first_look_at":"2027-01-15T08:00:00Z","errors_in_a_row":0}',
        'user-' || n / 4, CASE WHEN n % 10 > 0 THEN 'connection-' || n / 2 END
    FROM generate_series(first(), 1000000::bigint) n;

-- The last 80,000 are watched, of every urgency; some are due, some are claimed, some wait for a bank.
INSERT INTO due_jobs (job_id, next_look_at, urgency, joined, lease_id, lease_until, waits_for, waits_for_method)
    SELECT job(n), 1800000000000 + n * 7919 % 100000 - 10000,
        CASE WHEN n % 1000 < 5 THEN 0 WHEN n % 1000 < 20 THEN 1 WHEN n % 1000 < 200 THEN 2 ELSE 3 END,
        n % 100 = 0,
        CASE WHEN n % 400 = 0 THEN id(7) END, CASE WHEN n % 400 = 0 THEN 1800000030000 END,
        CASE WHEN n % 300 = 1 THEN 'AU0000' || n % 3 END, CASE WHEN n % 300 = 1 THEN 'web' END
    FROM generate_series(920001, 1000000::bigint) n;

-- The last 100,000 are open. One client had half of them, but none of the last 300,000.
INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at, settled_at)
    SELECT id(n), client_of(n), job(CASE WHEN open THEN 920001 + n % 80000 ELSE n END),
        'https://host' || n % 500 || '.example/hooks', 'host' || n % 500 || '.example', 15, 'en', '{}',
        CASE WHEN open THEN (ARRAY['awaiting-user', 'delayed', 'watching', 'watching'])[n % 4 + 1]
            WHEN n % 20 = 7 THEN 'cancelled' ELSE 'settled' END,
        '{"transitions":1,"sequence":1}', t - 60000, t, CASE WHEN NOT open THEN t END
    FROM (SELECT n, n > 900000 AS open, 1800000000000 - 2592 * (1000000 - n) AS t
        FROM generate_series(first(), 1000000::bigint) n) w;

-- One job is watched a thousand times.
INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at)
    SELECT id(n), 7, 'job-0925000', 'https://host1.example/' || n,
        'host1.example', 15, 'en', '{}', 'watching', '{}', 1800000000000, 1800000000000
    FROM generate_series(1000001, 1001000::bigint) n;

INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash)
    SELECT client_id, state, watch_id, job_id, decode(md5(callback_url), 'hex')
    FROM watches WHERE state <> 'settled'
    ON CONFLICT DO NOTHING;

INSERT INTO watch_counts (client_id, state, share, n)
    SELECT client_id, state, share, 0
    FROM generate_series(1, 100) client_id, generate_series(0, 63) share,
        unnest(ARRAY['watching', 'awaiting-user', 'delayed', 'settled', 'cancelled']) state;

-- One of each watch that is settled; of the last 100,000 each second is of one that is open, and the
-- others are of watches that had one before. The last 6,000 are pending. Of the others one in a hundred is dead, and
-- was tried eight times.
INSERT INTO events (event_id, source_id, client_id, state, updated_at, created_at, deadline, attempts, body)
    SELECT id(n), id(w), client_of(w),
        CASE WHEN n > 994000 THEN 'pending' ELSE coalesce(
            (ARRAY['dead', 'expired', 'superseded', 'cancelled'])[n % 100], 'delivered') END,
        1800000000000 - 2592 * (1000000 - n), 1800000000000 - 2592 * (1000000 - n),
        CASE WHEN n % 50 = 0 THEN 1800000000000 + n % 600000 END,
        '[' || repeat(attempt || ',', CASE WHEN n % 100 = 1 THEN 7 ELSE 0 END) || attempt || ']',
        '{"type":"job.success","data":{"job_id":"job-' || n || '","user_message":"Your bank is connected."}}'
    FROM (SELECT n, CASE WHEN n > 900000 AND n % 2 = 0 THEN (n - 900000) * 9 ELSE n END AS w,
            '{"number":1,"lease_id":"lse_01ARZ3NDEKTSV4RRFFQ69G5FAV","started_at":1,"duration":40,"status":500}'
                AS attempt
        FROM generate_series(first(), 1000000::bigint) n) e;

INSERT INTO undelivered_events (client_id, state, updated_at, event_id)
    SELECT client_id, state, updated_at, event_id FROM events
    WHERE state IN ('dead', 'expired', 'superseded', 'cancelled');

-- Those wait at 50 hosts, one of which has more than half of them, and some are in flight.
INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, deadline, attempts, round_attempts,
        pending_since, lease_id, lease_until)
    SELECT e.source_id, e.event_id, e.client_id, 'host' || n % 2 * (n / 2 % 50) || '.example',
        1800000000000 + n * 7919 % 20000 - 15000, e.deadline, 1, 1, e.updated_at,
        CASE WHEN n % 31 = 0 THEN id(7) END, CASE WHEN n % 31 = 0 THEN 1800000030000 END
    FROM generate_series(994001, 1000000::bigint) n JOIN events e ON e.event_id = id(n);

INSERT INTO hints (hint_id, taken_at)
    SELECT md5(n::text), 1800000000000 - 864 * (200000 - n) FROM generate_series(1, 200000::bigint) n;

INSERT INTO connection_failures (connection_id, job_id, failed_at)
    SELECT 'connection-' || n / 5, 'job-' || lpad(n::text, 7, '0'), 1800000000000 - 12960 * (200000 - n)
    FROM generate_series(1, 200000::bigint) n;

INSERT INTO connection_banks (slot, connection_id, institution_id)
    SELECT n, 'connection-' || n, 'AU' || lpad((n % 200)::text, 5, '0') FROM generate_series(0, 262143) n;

INSERT INTO paces (institution_id, job_type, pace, used_at)
    SELECT 'AU' || lpad(n::text, 5, '0'), kind, '{"stages":[]}', 1800000000000 - n * 1000
    FROM generate_series(0, 199) n, generate_series(1, 10) kind;

INSERT INTO outages (institution_id, method, next_look_at)
    SELECT 'AU0000' || n, 'web', 1800000000000 + n * 1000 - 500 FROM generate_series(0, 2) n;

-- 100,000 people have a subscription, of each client a thousand; 10,000 more have ended. Each saw some jobs.
INSERT INTO subscriptions (subscription_id, client_id, user_id, callback_url, callback_host, events, notices, locale,
        metadata, created_at, ended_at)
    SELECT id(n), n % 100 + 1, 'user-' || n, 'https://host1.example/hooks', 'host1.example', 15, 63, 'en', '{}',
        1797000000000, CASE WHEN n > 100000 THEN 1797000000000 + n END
    FROM generate_series(1, 110000::bigint) n;

INSERT INTO due_lists (user_id, next_list_at, listed_at, lease_id, lease_until)
    SELECT 'user-' || n, 1799999990000 + n * 200, 1799990000000,
        CASE WHEN n % 100 = 0 THEN id(7) END, CASE WHEN n % 100 = 0 THEN 1800000030000 END
    FROM generate_series(1, 100000::bigint) n;

INSERT INTO seen_jobs (subscription_id, job_id, seen_at)
    SELECT id(n % 110000 + 1), job(n), 1797900000000 + n * 1000 FROM generate_series(1, 300000::bigint) n;

-- 20,000 messages of Basiq's could not be passed on.
INSERT INTO events (event_id, source_id, kind, client_id, state, updated_at, created_at, body)
    SELECT id(n), id(n), 'message', 0, 'dead', 1797000000000 + n, 1797000000000 + n, '{}'
    FROM generate_series(4000001, 4020000::bigint) n;

INSERT INTO undelivered_events (client_id, state, updated_at, event_id)
    SELECT client_id, state, updated_at, event_id FROM events WHERE kind = 'message';

INSERT INTO messages (event_id, callback_url, callback_host, headers, body)
    SELECT id(n), 'https://host1.example/basiq', 'host1.example', '{}', '{}'
    FROM generate_series(4000001, 4020000::bigint) n;

INSERT INTO failing_hosts (host, failures, pauses, paused_until, paused_since, probing, failed_at)
    SELECT 'host' || n || '.example', 12, n % 3, CASE WHEN n % 3 > 0 THEN 1799999990000 + n * 1000 ELSE 0 END,
        CASE WHEN n % 3 > 0 THEN 1799999980000 ELSE 0 END, FALSE, 1799999980000
    FROM generate_series(0, 20) n;

INSERT INTO manual_pauses (host, paused_at, paused_by) VALUES ('host2.example', 1799999980000, 'alice'),
    ('host4.example', 1799999980000, 'alice');

INSERT INTO alerts (kind, subject, since)
    SELECT 'host-paused', 'host' || n || '.example', 1799999990000 FROM generate_series(0, 20) n;

-- Operators did 200,000 things in 400 days. Half of them were failed log-ins of nobody known.
INSERT INTO audit (audit_id, at, operator, act, subject)
    SELECT id(n), 1800000000000 - 172800 * (200000 - n),
        CASE WHEN n % 2 = 0 THEN 'unknown' ELSE 'operator' || n % 20 END,
        CASE WHEN n % 2 = 0 THEN 'log-in-failed' ELSE (ARRAY['logged-in', 'redelivered', 'watch-cancelled'])[n / 2 % 3 + 1] END, ''
    FROM generate_series(1, 200000::bigint) n;

INSERT INTO audit_horizon (one, kept_since) VALUES (1, 1797000000000);

-- Two relays did something in every minute of eight days, and at every bank, host and client in every hour and day.
INSERT INTO activity (scope, since, run, counts)
    SELECT 'minute', 1800000000000 - 60000 * n, id(relay), '{"":{"succeeded":9,"looks":40,"calls":44,"took":{"40":9}}}'
    FROM generate_series(0, 11519::bigint) n, generate_series(1, 2) relay;

INSERT INTO activity (scope, since, run, counts)
    SELECT scope, 1799996400000 - 3600000 * n, id(relay), '{"name":{"succeeded":9,"failed":1,"took":{"40":9}}}'
    FROM generate_series(0, 191::bigint) n, generate_series(1, 2) relay, unnest(ARRAY['hour', 'bank', 'host', 'client']) scope;

INSERT INTO activity (scope, since, run, counts)
    SELECT scope, 1799971200000 - 86400000 * n, id(relay), '{"name":{"succeeded":99,"failed":9,"took":{"40":99}}}'
    FROM generate_series(0, 8::bigint) n, generate_series(1, 2) relay, unnest(ARRAY['bank-day', 'host-day', 'client-day']) scope;

INSERT INTO relays (relay_id, seen_at)
    SELECT 'relay' || n, 1800000000000 FROM generate_series(1, 5) n;

SET session_replication_role = origin;
