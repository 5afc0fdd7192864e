-- Times are milliseconds since 1970 in UTC. The relay's own ids are 16 bytes, which sort by the time at which they
-- were made. Basiq's ids are text, ordered by their bytes.
--
-- Work is kept apart from history. `due_jobs`, `due_lists`, `outbox`, `outages` and `failing_hosts` have a row only
-- while there is something to do, and claims change nothing else. `jobs`, `watches`, `subscriptions` and `events` tell
-- what happened.
--
-- An update writes to every index of its table if it changes a column of any, and to none otherwise. So no index of
-- `watches` or `events` has a column that changes, nor does a condition of one. `unsettled_watches` and
-- `undelivered_events` serve in place of such indexes. The new version of a row must also fit on the page of the old one.
-- A batch changes all rows of a page at once, so half of each page is left free.

CREATE TABLE clients (
    client_id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            TEXT COLLATE "C" NOT NULL UNIQUE,
    key_hash        BYTEA  NOT NULL UNIQUE,
    secret          TEXT   NOT NULL,
    previous_secret TEXT,
    previous_until  BIGINT,
    -- JSON with the chain and the key, encrypted as the secrets are
    callback_certificate TEXT,
    -- a line for each header, encrypted as the secrets are
    callback_headers TEXT,
    created_at      BIGINT NOT NULL,
    revoked_at      BIGINT
);

-- ---------------------------------------------------------------- history

CREATE TABLE jobs (
    job_id        TEXT COLLATE "C" PRIMARY KEY,
    -- JSON, as text: it may tell of a NUL, which the database's own JSON cannot
    memory        TEXT NOT NULL,
    -- whose job it is, once known
    user_id       TEXT COLLATE "C",
    connection_id TEXT COLLATE "C"
) WITH (fillfactor = 80);

-- For hints, and for the operator, who searches watches by whatever is known of them.
CREATE INDEX jobs_of_connection ON jobs (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX jobs_of_user ON jobs (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE watches (
    watch_id      BYTEA  PRIMARY KEY,
    client_id     BIGINT NOT NULL REFERENCES clients (client_id),
    job_id        TEXT COLLATE "C" NOT NULL REFERENCES jobs (job_id),
    callback_url  TEXT COLLATE "C" NOT NULL,
    callback_host TEXT COLLATE "C" NOT NULL,
    operation     TEXT,
    events        BIGINT NOT NULL,
    until_step    TEXT,
    locale        TEXT   NOT NULL,
    -- JSON
    metadata      TEXT   NOT NULL,
    state         TEXT COLLATE "C" NOT NULL
        CHECK (state IN ('watching', 'awaiting-user', 'delayed', 'settled', 'cancelled')),
    -- JSON
    progress      TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    -- none while the watch is open
    settled_at    BIGINT,
    -- the trace of the API call that registered the watch, as its `traceparent` header gave it
    traceparent   TEXT,
    -- the subscription that found the job; none if a client registered the watch
    subscription_id BYTEA,
    CHECK ((settled_at IS NULL) = (state IN ('watching', 'awaiting-user', 'delayed')))
) WITH (fillfactor = 50);

CREATE INDEX watches_of_job ON watches (job_id, watch_id);
CREATE INDEX watches_of_client ON watches (client_id, watch_id);
CREATE INDEX watches_of_host ON watches (callback_host, watch_id);
CREATE INDEX watches_of_subscription ON watches (subscription_id) WHERE subscription_id IS NOT NULL;

-- Watches that are open or cancelled, for lists by state. Settled watches are so many that a list finds them among all
-- watches of the client.
CREATE TABLE unsettled_watches (
    client_id BIGINT NOT NULL,
    state     TEXT COLLATE "C" NOT NULL,
    watch_id  BYTEA  NOT NULL,
    job_id    TEXT COLLATE "C" NOT NULL,
    -- the MD5 hash of the callback's URL, which may be longer than an index takes
    url_hash  BYTEA  NOT NULL,
    PRIMARY KEY (client_id, state, watch_id)
);

-- The open watches of a job. A client has at most one for each job and callback.
CREATE UNIQUE INDEX open_watches ON unsettled_watches (job_id, url_hash, client_id)
    WHERE state <> 'cancelled';

-- Watches counted as they come and go: counting them afresh would take longer the more there are. Each
-- connection counts in a share of its own, so that none waits for another; only the sum means something.
CREATE TABLE watch_counts (
    client_id BIGINT NOT NULL,
    state     TEXT COLLATE "C" NOT NULL,
    share     BIGINT NOT NULL,
    n         BIGINT NOT NULL,
    PRIMARY KEY (client_id, state, share)
);

CREATE FUNCTION count_watches() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE TRIGGER watch_added AFTER INSERT ON watches
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_watches();
CREATE TRIGGER watch_changed AFTER UPDATE ON watches
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION count_watches();
CREATE TRIGGER watch_removed AFTER DELETE ON watches
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_watches();

CREATE TABLE subscriptions (
    subscription_id BYTEA  PRIMARY KEY,
    client_id       BIGINT NOT NULL REFERENCES clients (client_id),
    user_id         TEXT COLLATE "C" NOT NULL,
    -- the only connection of interest; none for all of the person's
    connection_id   TEXT COLLATE "C",
    callback_url    TEXT COLLATE "C" NOT NULL,
    callback_host   TEXT COLLATE "C" NOT NULL,
    events          BIGINT NOT NULL,
    notices         BIGINT NOT NULL,
    locale          TEXT   NOT NULL,
    -- JSON
    metadata        TEXT   NOT NULL,
    -- how many notices it had
    noticed         BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL,
    -- none while the subscription is active
    ended_at        BIGINT
);

-- The active subscriptions to a person. A client has at most one for each person, connection and callback.
CREATE UNIQUE INDEX subscriptions_active
    ON subscriptions (user_id, client_id, md5(callback_url), coalesce(connection_id, '')) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_of_client ON subscriptions (client_id, subscription_id);
CREATE INDEX subscriptions_of_user ON subscriptions (user_id, subscription_id);
CREATE INDEX subscriptions_of_connection ON subscriptions (connection_id) WHERE connection_id IS NOT NULL;
-- To count them. No other statement has this form of the condition.
CREATE INDEX subscriptions_counted ON subscriptions (client_id) WHERE coalesce(ended_at, 0) = 0;
CREATE INDEX subscriptions_ended ON subscriptions (ended_at) WHERE ended_at IS NOT NULL;

-- Jobs that a subscription has found, so that each becomes a watch once.
CREATE TABLE seen_jobs (
    subscription_id BYTEA  NOT NULL REFERENCES subscriptions (subscription_id) ON DELETE CASCADE,
    job_id          TEXT COLLATE "C" NOT NULL,
    seen_at         BIGINT NOT NULL,
    PRIMARY KEY (subscription_id, job_id)
);

CREATE INDEX seen_jobs_by_age ON seen_jobs (seen_at);

-- Each event with its delivery, which has the event's id. The source of an event is its watch, its subscription if it
-- is a notice, or the event itself if it is a message of Basiq's that is passed on. The outbox names one pending event
-- of each source, and the later ones wait.
CREATE TABLE events (
    event_id   BYTEA  PRIMARY KEY,
    source_id  BYTEA  NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL DEFAULT 'job' CHECK (kind IN ('job', 'notice', 'message')),
    -- 0 if the event is no client's
    client_id  BIGINT NOT NULL,
    state      TEXT COLLATE "C" NOT NULL CHECK
        (state IN ('pending', 'delivered', 'dead', 'expired', 'superseded', 'cancelled')),
    -- when the state last changed
    updated_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deadline   BIGINT,
    -- JSON, the latest attempt last
    attempts   TEXT   NOT NULL DEFAULT '[]',
    -- the exact text that is signed and posted
    body       TEXT   NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX events_of_source ON events (source_id, event_id);
CREATE INDEX events_from_basiq ON events (created_at) WHERE kind <> 'job';

-- Events that ended undelivered, for lists by state. Delivered events are so many that a list finds them among all
-- events of the client's watches.
CREATE TABLE undelivered_events (
    client_id  BIGINT NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    updated_at BIGINT NOT NULL,
    event_id   BYTEA  NOT NULL,
    PRIMARY KEY (client_id, state, updated_at, event_id)
);

-- Messages of Basiq's that are passed on, as they were received.
CREATE TABLE messages (
    event_id     BYTEA PRIMARY KEY,
    callback_url TEXT  NOT NULL,
    callback_host TEXT COLLATE "C" NOT NULL,
    -- the headers with Basiq's signature, as JSON
    headers      TEXT  NOT NULL,
    body         BYTEA NOT NULL
);

-- Erased people and connections, by the hash of their ids. The person of a job is known only after the first look at it:
-- watches that are older than the erasure are deleted then.
CREATE TABLE erasures (
    subject   BYTEA   PRIMARY KEY,
    erased_at BIGINT  NOT NULL
);

CREATE INDEX erasures_by_age ON erasures (erased_at);

-- ---------------------------------------------------------------- work

-- Jobs with an open watch.
CREATE TABLE due_jobs (
    job_id       TEXT COLLATE "C" PRIMARY KEY,
    next_look_at BIGINT  NOT NULL,
    -- 0 for a first look, 1 for an open challenge, 2 for a young job, 3 for all others
    urgency      BIGINT  NOT NULL,
    -- true once a watch was added that the latest claim did not see
    joined       BOOLEAN NOT NULL,
    lease_id     BYTEA,
    lease_until  BIGINT,
    -- the bank in major outage that the job waits for; none again once the bank serves
    waits_for        TEXT COLLATE "C",
    waits_for_method TEXT COLLATE "C",
    -- when the latest look that follows from a hint is due
    hinted_at    BIGINT,
    -- until when an answer to the open challenge is on its way, or was accepted just now, and which of the job's
    -- challenges that answers; the answer itself is never stored
    answering_until     BIGINT,
    answering_challenge BIGINT,
    -- when the job may be claimed
    ready_at     BIGINT GENERATED ALWAYS AS (greatest(next_look_at, coalesce(lease_until, 0))) STORED
);

CREATE INDEX due_jobs_ready ON due_jobs (urgency, ready_at);
CREATE INDEX due_jobs_waiting ON due_jobs (waits_for, waits_for_method) WHERE waits_for IS NOT NULL;

-- People with an active subscription: when their jobs are listed next.
CREATE TABLE due_lists (
    user_id       TEXT COLLATE "C" PRIMARY KEY,
    next_list_at  BIGINT NOT NULL,
    -- when the latest list was read
    listed_at     BIGINT,
    -- when the latest list that follows from a hint is due
    hinted_at     BIGINT,
    -- since when Basiq does not know the person
    missing_since BIGINT,
    lease_id      BYTEA,
    lease_until   BIGINT,
    ready_at      BIGINT GENERATED ALWAYS AS (greatest(next_list_at, coalesce(lease_until, 0))) STORED
);

CREATE INDEX due_lists_ready ON due_lists (ready_at);

-- Events to deliver: one event of each source that has one. So no two events of a source are in flight at a time. Of a
-- watch it is the latest event: a later one takes the row over, and waits until the attempt in flight ends or its lease
-- expires. Of a subscription it is the earliest: later ones follow when it has ended.
CREATE TABLE outbox (
    source_id       BYTEA  PRIMARY KEY,
    event_id        BYTEA  NOT NULL,
    client_id       BIGINT NOT NULL,
    host            TEXT COLLATE "C" NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    deadline        BIGINT,
    attempts        BIGINT NOT NULL DEFAULT 0,
    -- a redelivery begins a new round
    round_attempts  BIGINT NOT NULL DEFAULT 0,
    pending_since   BIGINT NOT NULL,
    lease_id        BYTEA,
    lease_until     BIGINT,
    -- when the event may be claimed
    ready_at        BIGINT GENERATED ALWAYS AS (greatest(next_attempt_at, coalesce(lease_until, 0))) STORED
);

CREATE INDEX outbox_ready ON outbox (host, ready_at);
-- Events with a deadline, which are tried at a paused host too.
CREATE INDEX outbox_expiring ON outbox (host, ready_at) WHERE deadline IS NOT NULL;

-- Banks in major outage, by the connector that reaches them.
CREATE TABLE outages (
    institution_id TEXT COLLATE "C" NOT NULL,
    method         TEXT COLLATE "C" NOT NULL,
    next_look_at   BIGINT NOT NULL,
    lease_id       BYTEA,
    lease_until    BIGINT,
    ready_at       BIGINT GENERATED ALWAYS AS
        (greatest(next_look_at, coalesce(lease_until, 0))) STORED,
    PRIMARY KEY (institution_id, method)
);

CREATE INDEX outages_ready ON outages (ready_at);

-- Callback hosts whose latest attempt failed.
CREATE TABLE failing_hosts (
    host         TEXT COLLATE "C" PRIMARY KEY,
    -- attempts in a row
    failures     BIGINT  NOT NULL,
    -- since it last answered
    pauses       BIGINT  NOT NULL,
    -- 0 if it was not paused
    paused_until BIGINT  NOT NULL,
    -- when the first of these pauses began; 0 if there was none
    paused_since BIGINT  NOT NULL DEFAULT 0,
    -- true while one attempt finds out whether it answers again
    probing      BOOLEAN NOT NULL,
    failed_at    BIGINT  NOT NULL
);

CREATE INDEX hosts_paused ON failing_hosts (paused_until) WHERE paused_until > 0;
CREATE INDEX hosts_by_failure ON failing_hosts (failed_at);
CREATE INDEX hosts_by_pause ON failing_hosts (paused_since, host) WHERE paused_since > 0;

-- Callback hosts that an operator paused. A row is there until an operator resumes the host.
CREATE TABLE manual_pauses (
    host      TEXT COLLATE "C" PRIMARY KEY,
    paused_at BIGINT NOT NULL,
    -- the operator's name
    paused_by TEXT   NOT NULL
);

-- Problems that operators were told of. A row is there until they are told that the problem is over.
CREATE TABLE alerts (
    kind    TEXT COLLATE "C" NOT NULL,
    -- the callback host, or the relay that told of it, or empty
    subject TEXT COLLATE "C" NOT NULL,
    since   BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- ---------------------------------------------------------------- what was learned

-- Hints that were taken, to take each once.
CREATE TABLE hints (
    hint_id  TEXT COLLATE "C" PRIMARY KEY,
    taken_at BIGINT NOT NULL
);

CREATE INDEX hints_by_age ON hints (taken_at);

-- How long jobs of one kind at one bank take, as JSON: what was seen, and what Basiq says. The bank ''
-- stands for all.
CREATE TABLE paces (
    institution_id TEXT COLLATE "C" NOT NULL,
    job_type       TEXT COLLATE "C" NOT NULL,
    pace           TEXT   NOT NULL,
    averages       TEXT,
    averages_at    BIGINT,
    used_at        BIGINT NOT NULL,
    PRIMARY KEY (institution_id, job_type)
);

CREATE INDEX paces_by_use ON paces (used_at);

-- The banks of connections, a fixed number of them: jobs tell their bank only late.
CREATE TABLE connection_banks (
    slot           BIGINT PRIMARY KEY,
    connection_id  TEXT COLLATE "C" NOT NULL,
    institution_id TEXT COLLATE "C" NOT NULL
);

-- Jobs that failed because the bank was unavailable, since the connection last succeeded.
CREATE TABLE connection_failures (
    connection_id TEXT COLLATE "C" NOT NULL,
    job_id        TEXT COLLATE "C" NOT NULL,
    failed_at     BIGINT NOT NULL,
    PRIMARY KEY (connection_id, job_id)
);

CREATE INDEX connection_failures_by_age ON connection_failures (failed_at);

-- ---------------------------------------------------------------- the fleet

-- Relays at work, each with its latest sign of life.
CREATE TABLE relays (
    relay_id TEXT COLLATE "C" PRIMARY KEY,
    seen_at  BIGINT NOT NULL
);

-- The latest time that the database's clock showed, so that a step back shows: one row.
CREATE TABLE clock (
    one          BIGINT PRIMARY KEY CHECK (one = 1),
    noted_at     BIGINT NOT NULL,
    -- until when one relay has the right to move all times back with the clock; 0 if none does
    moving_until BIGINT NOT NULL
);

INSERT INTO clock (one, noted_at, moving_until) VALUES (1, 0, 0);

-- The budget of calls to Basiq: one row. Its times are microseconds since 1970.
CREATE TABLE upstream (
    upstream_id  BIGINT PRIMARY KEY CHECK (upstream_id = 1),
    -- when the first call may be sent that nobody has reserved a turn for
    next_turn_at BIGINT NOT NULL,
    -- how many turns the latest reservation got
    granted      BIGINT NOT NULL,
    -- the latest pause that Basiq asked for: its number, its end and the HTTP status that began it
    pause        BIGINT NOT NULL,
    paused_until BIGINT NOT NULL,
    pause_status BIGINT NOT NULL
);

INSERT INTO upstream (upstream_id, next_turn_at, granted, pause, paused_until, pause_status)
    VALUES (1, 0, 0, 0, 0, 0);

-- Basiq's access token, by the API key that it was got with; encrypted by that key, which is not stored.
CREATE TABLE upstream_tokens (
    key_id         TEXT COLLATE "C" PRIMARY KEY,
    token          TEXT,
    renew_at       BIGINT,
    expires_at     BIGINT,
    -- until when one relay has the right to ask for another
    fetching_until BIGINT NOT NULL
);

-- What health checks write. Each takes a row at random, so that those of many relays do not wait for each other.
CREATE TABLE pings (
    slot  SMALLINT PRIMARY KEY,
    pings BIGINT NOT NULL
);

-- What the relays did, in numbers, for the console: by minute and hour, and for each bank, host and client by hour and day.
-- Each run of a relay has rows of its own, with its totals of that time. Kept for eight days.
CREATE TABLE activity (
    scope  TEXT COLLATE "C" NOT NULL CHECK
        (scope IN ('minute', 'hour', 'bank', 'host', 'client', 'bank-day', 'host-day', 'client-day')),
    -- the start of the minute, hour or day
    since  BIGINT NOT NULL,
    run    BYTEA  NOT NULL,
    -- JSON
    counts TEXT   NOT NULL,
    PRIMARY KEY (scope, since, run)
);

CREATE INDEX activity_by_age ON activity (since);

-- ---------------------------------------------------------------- the audit log

-- What operators did, in the order of the ids. Rows are only added. The upkeep deletes those before `audit_horizon`.
CREATE TABLE audit (
    audit_id BYTEA  PRIMARY KEY,
    at       BIGINT NOT NULL,
    operator TEXT COLLATE "C" NOT NULL,
    act      TEXT COLLATE "C" NOT NULL,
    subject  TEXT   NOT NULL,
    -- the address of the peer
    peer     TEXT
);

CREATE INDEX audit_by_operator ON audit (operator, audit_id);
CREATE INDEX audit_by_act ON audit (act, audit_id);

-- Entries before this time may be deleted: none while there is no row. The upkeep sets it first, so a deletion by mistake
-- is refused.
CREATE TABLE audit_horizon (
    one        BIGINT PRIMARY KEY CHECK (one = 1),
    kept_since BIGINT NOT NULL
);

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < (SELECT kept_since FROM audit_horizon) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();
