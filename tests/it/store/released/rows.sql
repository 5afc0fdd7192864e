-- Rows as the release before writes them, in the tables of postgres.sql.

INSERT INTO clients (name, key_hash, secret, created_at) VALUES
    ('first', '\x4a58e2004fb2d02282908e5fd583eff6178fa989b9009b159ffdae55920df375',
     'whsec_IEsBEJX1I7/HpMurukSyArYXCGL2LzGSnSd0qw11ozo=', 1800000000000);

-- One that has ended, one that is due for its second look, one that was never looked at.
INSERT INTO jobs (job_id, memory, user_id, connection_id)
    SELECT job_id, '{"first_look_at":null,"created":null,"steps":[],"changed_at":null,"seen_at":null,"stages":[],"context":{"jobType":null,"userId":null,"connectionId":null,"institutionId":null},"challenges":{"count":0,"open":null},"errors_in_a_row":0,"missing_since":null,"forbidden_since":null,"phase":{"kind":"running"}}',
        'user-1', 'connection-1'
    FROM (VALUES ('job-ended'), ('job-told'), ('job-new')) j (job_id);

INSERT INTO due_jobs (job_id, next_look_at, urgency, joined) VALUES
    ('job-told', 1800000071000, 3, FALSE), ('job-new', 1800000020000, 0, TRUE);

INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at, settled_at)
    SELECT watch_id, client_id, job_id, 'https://app.example/hook', 'app.example', 15, 'en', '{"order":"7"}', state,
        '{"transitions":1,"sequence":1,"told_challenge":0,"told_delay":false,"told_outage":false}',
        1800000000000, 1800000001000, settled_at
    FROM clients, (VALUES ('\x01a3185c5000b76a20a0b63837c2ea04'::bytea, 'job-ended', 'settled', 1800000001000),
        ('\x01a3185c77107c04aec557b6988ccf1c', 'job-told', 'delayed', NULL),
        ('\x01a3185c9e206e06e0ce43ec1d8e09c0', 'job-new', 'watching', NULL)) w (watch_id, job_id, state, settled_at);

INSERT INTO unsettled_watches (client_id, state, watch_id, job_id, url_hash)
    SELECT client_id, state, watch_id, job_id, decode(md5(callback_url), 'hex') FROM watches WHERE state <> 'settled'
    ON CONFLICT DO NOTHING;

-- One was accepted, one waits.
INSERT INTO events (event_id, source_id, client_id, state, updated_at, created_at, attempts, body)
    SELECT event_id, watch_id, client_id, state, 1800000011000, at, attempts, body
    FROM clients, (VALUES
        ('\x01a3185c50000001df985fd73b579695'::bytea, '\x01a3185c5000b76a20a0b63837c2ea04'::bytea, 'delivered', 1800000001000,
         '[{"number":1,"lease_id":"lse_01MCC5RNYGN2GCN4EZBW5BVPZV","started_at":1800000003000,"duration":40,"status":204}]',
         '{"type":"job.success","timestamp":"2027-01-15T08:00:01Z","sequence":1,"final":true,"watchId":"wch_01MCC5RM00PXN2185P70VW5TG4","jobId":"job-ended","status":"success","failedStep":null,"errorCode":null,"userMessage":"Your bank is connected.","action":"none","retryAt":null,"detail":null,"challenge":null,"context":{"jobType":null,"userId":null,"connectionId":null,"institutionId":null},"resources":[],"metadata":{}}'),
        ('\x01a3185c771000013adcae76578b6949', '\x01a3185c77107c04aec557b6988ccf1c', 'pending', 1800000011000, '[]',
         '{"type":"job.delayed","timestamp":"2027-01-15T08:00:11Z","sequence":1,"final":false,"watchId":"wch_01MCC5RXRGFG2AXHAQPTC8SKRW","jobId":"job-told","status":"delayed","failedStep":null,"errorCode":null,"userMessage":"Your bank is busy.","action":"none","retryAt":null,"detail":null,"challenge":null,"context":{"jobType":null,"userId":null,"connectionId":null,"institutionId":null},"resources":[],"metadata":{}}')) e (event_id, watch_id, state, at, attempts, body);

INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since)
    SELECT source_id, event_id, client_id, 'app.example', updated_at, updated_at FROM events WHERE state = 'pending';

INSERT INTO undelivered_events (client_id, state, updated_at, event_id)
    SELECT client_id, 'expired', 1800000011000, '\x07'::bytea FROM clients;

INSERT INTO erasures (subject, erased_at) VALUES ('\x0a', 1800000000000);
INSERT INTO hints (hint_id, taken_at) VALUES ('msg_1', 1800000000000);
INSERT INTO paces (institution_id, job_type, pace, used_at) VALUES ('AU00000', '', '{}', 1800000000000);
INSERT INTO connection_banks (slot, connection_id, institution_id) VALUES (7, 'connection-1', 'AU00000');
INSERT INTO connection_failures (connection_id, job_id, failed_at) VALUES ('connection-1', 'job-ended', 1800000000000);
INSERT INTO outages (institution_id, method, next_look_at) VALUES ('AU00000', 'web', 1800000060000);
INSERT INTO failing_hosts (host, failures, pauses, paused_until, probing, failed_at)
    VALUES ('other.example', 3, 0, 0, FALSE, 1800000000000);
INSERT INTO subscriptions (subscription_id, client_id, user_id, callback_url, callback_host, events, notices, locale,
        metadata, created_at)
    SELECT '\x01a3185c5000b76a20a0b63837c2ea05', client_id, 'user-1', 'https://app.example/hook', 'app.example', 15, 63,
        'en', '{}', 1800000000000 FROM clients;
INSERT INTO seen_jobs (subscription_id, job_id, seen_at)
    VALUES ('\x01a3185c5000b76a20a0b63837c2ea05', 'job-ended', 1800000000000);
INSERT INTO due_lists (user_id, next_list_at) VALUES ('user-1', 1800000000000);
INSERT INTO messages (event_id, callback_url, callback_host, headers, body)
    VALUES ('\x08', 'https://app.example/basiq', 'app.example', '{}', '{}');
INSERT INTO relays (relay_id, seen_at) VALUES ('relay-1', 1800000000000);
INSERT INTO clock (one, noted_at, moving_until) VALUES (1, 0, 0);
INSERT INTO upstream (upstream_id, next_turn_at, granted, pause, paused_until, pause_status)
    VALUES (1, 0, 0, 0, 0, 0);
INSERT INTO upstream_tokens (key_id, token, renew_at, expires_at, fetching_until)
    VALUES ('key-1', 'encrypted', 1800000600000, 1800003600000, 0);
INSERT INTO pings (slot, pings) VALUES (1, 7);

INSERT INTO audit (audit_id, at, operator, act, subject, peer) VALUES
    ('\x01a3185c5000c76a20a0b63837c2ea04', 1800000000000, 'admin', 'client-added', 'first', '192.0.2.7');

INSERT INTO audit_horizon (one, kept_since) VALUES (1, 1700000000000);

INSERT INTO activity (scope, since, run, counts) VALUES
    ('minute', 1800000000000, '\x01a3185c5000c76a20a0b63837c2ea04', '{"":{"succeeded":2,"looks":9,"calls":10,"took":{"40":2}}}'),
    ('host-day', 1799971200000, '\x01a3185c5000c76a20a0b63837c2ea04', '{"app.example":{"succeeded":2,"took":{"20":2}}}');

INSERT INTO manual_pauses (host, paused_at, paused_by) VALUES ('paused.example', 1800000000000, 'admin');

INSERT INTO alerts (kind, subject, since) VALUES ('host-paused', 'app.example', 1800000000000);
