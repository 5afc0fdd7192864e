-- Rows as the release before writes them, in the tables of postgres.sql.

INSERT INTO clients (name, key_hash, secret, created_at) VALUES
    ('first', '\x4a58e2004fb2d02282908e5fd583eff6178fa989b9009b159ffdae55920df375',
     'whsec_IEsBEJX1I7/HpMurukSyArYXCGL2LzGSnSd0qw11ozo=', 1800000000000);

-- One that has ended, one that is due for its second look, one that was never looked at.
INSERT INTO jobs (job_id, next_look_at, urgency, joined, memory, user_id, connection_id)
    SELECT *, '{"first_look_at":null,"created":null,"steps":[],"changed_at":null,"seen_at":null,"stages":[],"context":{"jobType":null,"userId":null,"connectionId":null,"institutionId":null},"challenges":{"count":0,"open":null},"errors_in_a_row":0,"missing_since":null,"forbidden_since":null,"phase":{"kind":"running"}}',
        'user-1', 'connection-1'
    FROM (VALUES ('job-ended', NULL, 3, FALSE), ('job-told', 1800000071000, 3, FALSE),
        ('job-new', 1800000020000, 0, TRUE)) j (job_id, next_look_at, urgency, joined);

INSERT INTO watches (watch_id, client_id, job_id, callback_url, callback_host, events, locale, metadata,
        state, progress, created_at, updated_at, settled_at)
    SELECT watch_id, client_id, job_id, 'https://app.example/hook', 'app.example', 15, 'en', '{"order":"7"}', state,
        '{"transitions":1,"sequence":1,"told_challenge":0,"told_delay":false,"told_outage":false}',
        1800000000000, 1800000001000, settled_at
    FROM clients, (VALUES ('wch_01MCC5RM00PXN2185P70VW5TG4', 'job-ended', 'settled', 1800000001000),
        ('wch_01MCC5RXRGFG2AXHAQPTC8SKRW', 'job-told', 'delayed', NULL),
        ('wch_01MCC5S7H0DR3E1KJ3XGERW2E0', 'job-new', 'watching', NULL)) w (watch_id, job_id, state, settled_at);

INSERT INTO events (event_id, watch_id, body, created_at) VALUES
    ('evt_01MCC5RM00000XZ62ZTWXNF5MN', 'wch_01MCC5RM00PXN2185P70VW5TG4',
     '{"type":"job.success","timestamp":"2027-01-15T08:00:01Z","sequence":1,"final":true,"watchId":"wch_01MCC5RM00PXN2185P70VW5TG4","jobId":"job-ended","status":"success","failedStep":null,"errorCode":null,"userMessage":"Your bank is connected.","action":"none","retryAt":null,"detail":null,"challenge":null,"context":{"jobType":null,"userId":null,"connectionId":null,"institutionId":null},"resources":[],"metadata":{}}',
     1800000001000),
    ('evt_01MCC5RXRG000KNQ5EESBRPTA9', 'wch_01MCC5RXRGFG2AXHAQPTC8SKRW',
     '{"type":"job.delayed","timestamp":"2027-01-15T08:00:11Z","sequence":1,"final":false,"watchId":"wch_01MCC5RXRGFG2AXHAQPTC8SKRW","jobId":"job-told","status":"delayed","failedStep":null,"errorCode":null,"userMessage":"Your bank is busy.","action":"none","retryAt":null,"detail":null,"challenge":null,"context":{"jobType":null,"userId":null,"connectionId":null,"institutionId":null},"resources":[],"metadata":{}}',
     1800000011000);

-- One was accepted, one waits.
INSERT INTO deliveries (delivery_id, event_id, watch_id, client_id, host, state, next_attempt_at, attempts,
        round_attempts, updated_at)
    SELECT delivery_id, e.event_id, watch_id, client_id, 'app.example', state, at, n, n, 1800000011000
    FROM clients, events e JOIN (VALUES
        ('dlv_01MCC5RMZ8QZ3WNXTQP4KXVDYD', 'evt_01MCC5RM00000XZ62ZTWXNF5MN', 'delivered', NULL, 1),
        ('dlv_01MCC5RYQRQD00MMYCH3TJ5R31', 'evt_01MCC5RXRG000KNQ5EESBRPTA9', 'pending', 1800000011000, 0))
        d (delivery_id, event_id, state, at, n) ON d.event_id = e.event_id;

INSERT INTO attempts (delivery_id, number, lease_id, started_at, duration, status) VALUES
    ('dlv_01MCC5RMZ8QZ3WNXTQP4KXVDYD', 1, 'lse_01MCC5RNYGN2GCN4EZBW5BVPZV', 1800000003000, 40, 204);

INSERT INTO hints (hint_id, taken_at) VALUES ('msg_1', 1800000000000);
INSERT INTO paces (institution_id, job_type, pace, used_at) VALUES ('AU00000', '', '{}', 1800000000000);
INSERT INTO connection_banks (slot, connection_id, institution_id) VALUES (7, 'connection-1', 'AU00000');
INSERT INTO connection_failures (connection_id, job_id, failed_at) VALUES ('connection-1', 'job-ended', 1800000000000);
INSERT INTO outages (institution_id, method, next_look_at) VALUES ('AU00000', 'web', 1800000060000);
INSERT INTO failing_hosts (host, failures, pauses, paused_until, probing, failed_at)
    VALUES ('other.example', 3, 0, 0, FALSE, 1800000000000);
