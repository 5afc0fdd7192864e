-- The tables as the release before made them, and the migrations that it ran. The tests of upgrades begin
-- here: what is being developed must add to these tables only, so that both versions can run beside each
-- other.
--
-- Written by tests/it/store/released/renew. It is renewed at each release, as its last step, together with
-- rows.sql beside it if there are columns that cannot do without a value; at no other time. Before the
-- first release it is what migration 1 alone makes, and is renewed whenever that is changed:
--     tests/it/store/released/renew SERVER 1

CREATE FUNCTION count_watches() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO watch_counts AS c (client_id, state, share, n)
            SELECT client_id, state, pg_backend_pid() % 64, count(*) FROM added
            GROUP BY client_id, state ORDER BY client_id, state
            ON CONFLICT (client_id, state, share) DO UPDATE SET n = c.n + excluded.n;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO watch_counts AS c (client_id, state, share, n)
            SELECT client_id, state, pg_backend_pid() % 64, -count(*) FROM removed
            GROUP BY client_id, state ORDER BY client_id, state
            ON CONFLICT (client_id, state, share) DO UPDATE SET n = c.n + excluded.n;
        DELETE FROM events WHERE source_id = ANY (ARRAY(SELECT watch_id FROM removed));
    ELSE
        INSERT INTO watch_counts AS c (client_id, state, share, n)
            SELECT client_id, state, pg_backend_pid() % 64, sum(change) FROM (
                SELECT client_id, state, 1 AS change FROM added
                UNION ALL SELECT client_id, state, -1 FROM removed) changes
            GROUP BY client_id, state HAVING sum(change) <> 0 ORDER BY client_id, state
            ON CONFLICT (client_id, state, share) DO UPDATE SET n = c.n + excluded.n;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < (SELECT kept_since FROM audit_horizon) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;

CREATE TABLE activity (
    scope text NOT NULL COLLATE pg_catalog."C",
    since bigint NOT NULL,
    run bytea NOT NULL,
    counts text NOT NULL,
    CONSTRAINT activity_scope_check CHECK ((scope = ANY (ARRAY['minute'::text, 'hour'::text, 'bank'::text, 'host'::text, 'client'::text, 'bank-day'::text, 'host-day'::text, 'client-day'::text])))
);

CREATE TABLE alerts (
    kind text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL COLLATE pg_catalog."C",
    since bigint NOT NULL
);

CREATE TABLE audit (
    audit_id bytea NOT NULL,
    at bigint NOT NULL,
    operator text NOT NULL COLLATE pg_catalog."C",
    act text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL,
    peer text
);

CREATE TABLE audit_horizon (
    one bigint NOT NULL,
    kept_since bigint NOT NULL,
    CONSTRAINT audit_horizon_one_check CHECK ((one = 1))
);

CREATE TABLE clients (
    client_id bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    key_hash bytea NOT NULL,
    secret text NOT NULL,
    previous_secret text,
    previous_until bigint,
    callback_certificate text,
    callback_headers text,
    created_at bigint NOT NULL,
    revoked_at bigint
);

ALTER TABLE clients ALTER COLUMN client_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME clients_client_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE clock (
    one bigint NOT NULL,
    noted_at bigint NOT NULL,
    moving_until bigint NOT NULL,
    CONSTRAINT clock_one_check CHECK ((one = 1))
);

CREATE TABLE connection_banks (
    slot bigint NOT NULL,
    connection_id text NOT NULL COLLATE pg_catalog."C",
    institution_id text NOT NULL COLLATE pg_catalog."C"
);

CREATE TABLE connection_failures (
    connection_id text NOT NULL COLLATE pg_catalog."C",
    job_id text NOT NULL COLLATE pg_catalog."C",
    failed_at bigint NOT NULL
);

CREATE TABLE due_jobs (
    job_id text NOT NULL COLLATE pg_catalog."C",
    next_look_at bigint NOT NULL,
    urgency bigint NOT NULL,
    joined boolean NOT NULL,
    lease_id bytea,
    lease_until bigint,
    waits_for text COLLATE pg_catalog."C",
    waits_for_method text COLLATE pg_catalog."C",
    hinted_at bigint,
    answering_until bigint,
    answering_challenge bigint,
    ready_at bigint GENERATED ALWAYS AS (GREATEST(next_look_at, COALESCE(lease_until, (0)::bigint))) STORED
);

CREATE TABLE due_lists (
    user_id text NOT NULL COLLATE pg_catalog."C",
    next_list_at bigint NOT NULL,
    listed_at bigint,
    hinted_at bigint,
    missing_since bigint,
    lease_id bytea,
    lease_until bigint,
    ready_at bigint GENERATED ALWAYS AS (GREATEST(next_list_at, COALESCE(lease_until, (0)::bigint))) STORED
);

CREATE TABLE erasures (
    subject bytea NOT NULL,
    erased_at bigint NOT NULL
);

CREATE TABLE events (
    event_id bytea NOT NULL,
    source_id bytea NOT NULL,
    kind text DEFAULT 'job'::text NOT NULL COLLATE pg_catalog."C",
    client_id bigint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    updated_at bigint NOT NULL,
    created_at bigint NOT NULL,
    deadline bigint,
    attempts text DEFAULT '[]'::text NOT NULL,
    body text NOT NULL,
    CONSTRAINT events_kind_check CHECK ((kind = ANY (ARRAY['job'::text, 'notice'::text, 'message'::text]))),
    CONSTRAINT events_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'dead'::text, 'expired'::text, 'superseded'::text, 'cancelled'::text])))
)
WITH (fillfactor='50');

CREATE TABLE failing_hosts (
    host text NOT NULL COLLATE pg_catalog."C",
    failures bigint NOT NULL,
    pauses bigint NOT NULL,
    paused_until bigint NOT NULL,
    paused_since bigint DEFAULT 0 NOT NULL,
    probing boolean NOT NULL,
    failed_at bigint NOT NULL
);

CREATE TABLE hints (
    hint_id text NOT NULL COLLATE pg_catalog."C",
    taken_at bigint NOT NULL
);

CREATE TABLE jobs (
    job_id text NOT NULL COLLATE pg_catalog."C",
    memory text NOT NULL,
    user_id text COLLATE pg_catalog."C",
    connection_id text COLLATE pg_catalog."C"
)
WITH (fillfactor='80');

CREATE TABLE manual_pauses (
    host text NOT NULL COLLATE pg_catalog."C",
    paused_at bigint NOT NULL,
    paused_by text NOT NULL
);

CREATE TABLE messages (
    event_id bytea NOT NULL,
    callback_url text NOT NULL,
    callback_host text NOT NULL COLLATE pg_catalog."C",
    headers text NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE outages (
    institution_id text NOT NULL COLLATE pg_catalog."C",
    method text NOT NULL COLLATE pg_catalog."C",
    next_look_at bigint NOT NULL,
    lease_id bytea,
    lease_until bigint,
    ready_at bigint GENERATED ALWAYS AS (GREATEST(next_look_at, COALESCE(lease_until, (0)::bigint))) STORED
);

CREATE TABLE outbox (
    source_id bytea NOT NULL,
    event_id bytea NOT NULL,
    client_id bigint NOT NULL,
    host text NOT NULL COLLATE pg_catalog."C",
    next_attempt_at bigint NOT NULL,
    deadline bigint,
    attempts bigint DEFAULT 0 NOT NULL,
    round_attempts bigint DEFAULT 0 NOT NULL,
    pending_since bigint NOT NULL,
    lease_id bytea,
    lease_until bigint,
    ready_at bigint GENERATED ALWAYS AS (GREATEST(next_attempt_at, COALESCE(lease_until, (0)::bigint))) STORED
);

CREATE TABLE paces (
    institution_id text NOT NULL COLLATE pg_catalog."C",
    job_type text NOT NULL COLLATE pg_catalog."C",
    pace text NOT NULL,
    averages text,
    averages_at bigint,
    used_at bigint NOT NULL
);

CREATE TABLE pings (
    slot smallint NOT NULL,
    pings bigint NOT NULL
);

CREATE TABLE relay_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    checksum bytea NOT NULL
);

CREATE TABLE relays (
    relay_id text NOT NULL COLLATE pg_catalog."C",
    seen_at bigint NOT NULL
);

CREATE TABLE seen_jobs (
    subscription_id bytea NOT NULL,
    job_id text NOT NULL COLLATE pg_catalog."C",
    seen_at bigint NOT NULL
);

CREATE TABLE subscriptions (
    subscription_id bytea NOT NULL,
    client_id bigint NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    connection_id text COLLATE pg_catalog."C",
    callback_url text NOT NULL COLLATE pg_catalog."C",
    callback_host text NOT NULL COLLATE pg_catalog."C",
    events bigint NOT NULL,
    notices bigint NOT NULL,
    locale text NOT NULL,
    metadata text NOT NULL,
    noticed bigint DEFAULT 0 NOT NULL,
    created_at bigint NOT NULL,
    ended_at bigint
);

CREATE TABLE undelivered_events (
    client_id bigint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    updated_at bigint NOT NULL,
    event_id bytea NOT NULL
);

CREATE TABLE unsettled_watches (
    client_id bigint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    watch_id bytea NOT NULL,
    job_id text NOT NULL COLLATE pg_catalog."C",
    url_hash bytea NOT NULL
);

CREATE TABLE upstream (
    upstream_id bigint NOT NULL,
    next_turn_at bigint NOT NULL,
    granted bigint NOT NULL,
    pause bigint NOT NULL,
    paused_until bigint NOT NULL,
    pause_status bigint NOT NULL,
    CONSTRAINT upstream_upstream_id_check CHECK ((upstream_id = 1))
);

CREATE TABLE upstream_tokens (
    key_id text NOT NULL COLLATE pg_catalog."C",
    token text,
    renew_at bigint,
    expires_at bigint,
    fetching_until bigint NOT NULL
);

CREATE TABLE watch_counts (
    client_id bigint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    share bigint NOT NULL,
    n bigint NOT NULL
);

CREATE TABLE watches (
    watch_id bytea NOT NULL,
    client_id bigint NOT NULL,
    job_id text NOT NULL COLLATE pg_catalog."C",
    callback_url text NOT NULL COLLATE pg_catalog."C",
    callback_host text NOT NULL COLLATE pg_catalog."C",
    operation text,
    events bigint NOT NULL,
    until_step text,
    locale text NOT NULL,
    metadata text NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    progress text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    settled_at bigint,
    traceparent text,
    subscription_id bytea,
    CONSTRAINT watches_check CHECK (((settled_at IS NULL) = (state = ANY (ARRAY['watching'::text, 'awaiting-user'::text, 'delayed'::text])))),
    CONSTRAINT watches_state_check CHECK ((state = ANY (ARRAY['watching'::text, 'awaiting-user'::text, 'delayed'::text, 'settled'::text, 'cancelled'::text])))
)
WITH (fillfactor='50');

ALTER TABLE ONLY activity
    ADD CONSTRAINT activity_pkey PRIMARY KEY (scope, since, run);

ALTER TABLE ONLY alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (kind, subject);

ALTER TABLE ONLY audit_horizon
    ADD CONSTRAINT audit_horizon_pkey PRIMARY KEY (one);

ALTER TABLE ONLY audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY clients
    ADD CONSTRAINT clients_key_hash_key UNIQUE (key_hash);

ALTER TABLE ONLY clients
    ADD CONSTRAINT clients_name_key UNIQUE (name);

ALTER TABLE ONLY clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (client_id);

ALTER TABLE ONLY clock
    ADD CONSTRAINT clock_pkey PRIMARY KEY (one);

ALTER TABLE ONLY connection_banks
    ADD CONSTRAINT connection_banks_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY connection_failures
    ADD CONSTRAINT connection_failures_pkey PRIMARY KEY (connection_id, job_id);

ALTER TABLE ONLY due_jobs
    ADD CONSTRAINT due_jobs_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY due_lists
    ADD CONSTRAINT due_lists_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY events
    ADD CONSTRAINT events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY failing_hosts
    ADD CONSTRAINT failing_hosts_pkey PRIMARY KEY (host);

ALTER TABLE ONLY hints
    ADD CONSTRAINT hints_pkey PRIMARY KEY (hint_id);

ALTER TABLE ONLY jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY manual_pauses
    ADD CONSTRAINT manual_pauses_pkey PRIMARY KEY (host);

ALTER TABLE ONLY messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY outages
    ADD CONSTRAINT outages_pkey PRIMARY KEY (institution_id, method);

ALTER TABLE ONLY outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (source_id);

ALTER TABLE ONLY paces
    ADD CONSTRAINT paces_pkey PRIMARY KEY (institution_id, job_type);

ALTER TABLE ONLY pings
    ADD CONSTRAINT pings_pkey PRIMARY KEY (slot);

ALTER TABLE ONLY relay_migrations
    ADD CONSTRAINT relay_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY relays
    ADD CONSTRAINT relays_pkey PRIMARY KEY (relay_id);

ALTER TABLE ONLY seen_jobs
    ADD CONSTRAINT seen_jobs_pkey PRIMARY KEY (subscription_id, job_id);

ALTER TABLE ONLY subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (subscription_id);

ALTER TABLE ONLY undelivered_events
    ADD CONSTRAINT undelivered_events_pkey PRIMARY KEY (client_id, state, updated_at, event_id);

ALTER TABLE ONLY unsettled_watches
    ADD CONSTRAINT unsettled_watches_pkey PRIMARY KEY (client_id, state, watch_id);

ALTER TABLE ONLY upstream
    ADD CONSTRAINT upstream_pkey PRIMARY KEY (upstream_id);

ALTER TABLE ONLY upstream_tokens
    ADD CONSTRAINT upstream_tokens_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY watch_counts
    ADD CONSTRAINT watch_counts_pkey PRIMARY KEY (client_id, state, share);

ALTER TABLE ONLY watches
    ADD CONSTRAINT watches_pkey PRIMARY KEY (watch_id);

CREATE INDEX activity_by_age ON activity USING btree (since);

CREATE INDEX audit_by_act ON audit USING btree (act, audit_id);

CREATE INDEX audit_by_operator ON audit USING btree (operator, audit_id);

CREATE INDEX connection_failures_by_age ON connection_failures USING btree (failed_at);

CREATE INDEX due_jobs_ready ON due_jobs USING btree (urgency, ready_at);

CREATE INDEX due_jobs_waiting ON due_jobs USING btree (waits_for, waits_for_method) WHERE (waits_for IS NOT NULL);

CREATE INDEX due_lists_ready ON due_lists USING btree (ready_at);

CREATE INDEX erasures_by_age ON erasures USING btree (erased_at);

CREATE INDEX events_from_basiq ON events USING btree (created_at) WHERE (kind <> 'job'::text);

CREATE INDEX events_of_source ON events USING btree (source_id, event_id);

CREATE INDEX hints_by_age ON hints USING btree (taken_at);

CREATE INDEX hosts_by_failure ON failing_hosts USING btree (failed_at);

CREATE INDEX hosts_by_pause ON failing_hosts USING btree (paused_since, host) WHERE (paused_since > 0);

CREATE INDEX hosts_paused ON failing_hosts USING btree (paused_until) WHERE (paused_until > 0);

CREATE INDEX jobs_of_connection ON jobs USING btree (connection_id) WHERE (connection_id IS NOT NULL);

CREATE INDEX jobs_of_user ON jobs USING btree (user_id) WHERE (user_id IS NOT NULL);

CREATE UNIQUE INDEX open_watches ON unsettled_watches USING btree (job_id, url_hash, client_id) WHERE (state <> 'cancelled'::text);

CREATE INDEX outages_ready ON outages USING btree (ready_at);

CREATE INDEX outbox_expiring ON outbox USING btree (host, ready_at) WHERE (deadline IS NOT NULL);

CREATE INDEX outbox_ready ON outbox USING btree (host, ready_at);

CREATE INDEX paces_by_use ON paces USING btree (used_at);

CREATE INDEX seen_jobs_by_age ON seen_jobs USING btree (seen_at);

CREATE UNIQUE INDEX subscriptions_active ON subscriptions USING btree (user_id, client_id, md5(callback_url), COALESCE(connection_id, ''::text)) WHERE (ended_at IS NULL);

CREATE INDEX subscriptions_counted ON subscriptions USING btree (client_id) WHERE (COALESCE(ended_at, (0)::bigint) = 0);

CREATE INDEX subscriptions_ended ON subscriptions USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE INDEX subscriptions_of_client ON subscriptions USING btree (client_id, subscription_id);

CREATE INDEX subscriptions_of_connection ON subscriptions USING btree (connection_id) WHERE (connection_id IS NOT NULL);

CREATE INDEX subscriptions_of_user ON subscriptions USING btree (user_id, subscription_id);

CREATE INDEX watches_of_client ON watches USING btree (client_id, watch_id);

CREATE INDEX watches_of_host ON watches USING btree (callback_host, watch_id);

CREATE INDEX watches_of_job ON watches USING btree (job_id, watch_id);

CREATE INDEX watches_of_subscription ON watches USING btree (subscription_id) WHERE (subscription_id IS NOT NULL);

CREATE TRIGGER audit_is_not_changed BEFORE DELETE OR UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit();

CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

CREATE TRIGGER watch_added AFTER INSERT ON watches REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_watches();

CREATE TRIGGER watch_changed AFTER UPDATE ON watches REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_watches();

CREATE TRIGGER watch_removed AFTER DELETE ON watches REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_watches();

ALTER TABLE ONLY seen_jobs
    ADD CONSTRAINT seen_jobs_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(subscription_id) ON DELETE CASCADE;

ALTER TABLE ONLY subscriptions
    ADD CONSTRAINT subscriptions_client_id_fkey FOREIGN KEY (client_id) REFERENCES clients(client_id);

ALTER TABLE ONLY watches
    ADD CONSTRAINT watches_client_id_fkey FOREIGN KEY (client_id) REFERENCES clients(client_id);

ALTER TABLE ONLY watches
    ADD CONSTRAINT watches_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs(job_id);

INSERT INTO relay_migrations VALUES (0, 'locked while migrations run', '\x');
INSERT INTO relay_migrations VALUES (1, 'the relay', '\xfb11d76f20298ca7101066da4e78d0182a4dacaf3406b0632ed2345e2b1986ac01d3b97b1b1a9260b667e4609b3c05c6');

