-- Times are milliseconds since 1970 in UTC; ids are text as they are shown, ordered by their bytes.

CREATE TABLE clients (
    client_id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            TEXT COLLATE "C" NOT NULL UNIQUE,
    key_hash        BYTEA  NOT NULL UNIQUE,
    secret          TEXT   NOT NULL,
    previous_secret TEXT,
    previous_until  BIGINT,
    created_at      BIGINT NOT NULL,
    revoked_at      BIGINT
);

CREATE TABLE jobs (
    job_id       TEXT COLLATE "C" PRIMARY KEY,
    -- none while no watch is open
    next_look_at BIGINT,
    -- 0 for a first look, 1 for an open challenge, 2 for a young job, 3 for all others
    urgency      BIGINT  NOT NULL,
    -- true once a watch was added that the latest claim did not see
    joined       BOOLEAN NOT NULL,
    lease_id     TEXT COLLATE "C",
    lease_until  BIGINT,
    -- JSON, as text: it may tell of a NUL, which the database's own JSON cannot
    memory       TEXT NOT NULL,
    -- the bank in major outage that it waits for; none again once that serves
    waits_for        TEXT COLLATE "C",
    waits_for_method TEXT COLLATE "C",
    -- whose it is, as far as it tells
    user_id       TEXT COLLATE "C",
    connection_id TEXT COLLATE "C",
    -- when the latest look that follows from a hint is due
    hinted_at     BIGINT,
    -- until when an answer to its open challenge is on its way, or was accepted just now, and which
    -- of its challenges that answers; the answer itself is never stored
    answering_until     BIGINT,
    answering_challenge BIGINT,
    -- when it may be claimed
    ready_at     BIGINT GENERATED ALWAYS AS
        (CASE WHEN next_look_at IS NULL THEN NULL
              ELSE greatest(next_look_at, coalesce(lease_until, 0)) END) STORED
);

CREATE INDEX jobs_ready ON jobs (urgency, ready_at) WHERE ready_at IS NOT NULL;

-- Jobs with an open watch, for hints.
CREATE INDEX jobs_of_connection ON jobs (connection_id) WHERE next_look_at IS NOT NULL;
CREATE INDEX jobs_of_user ON jobs (user_id) WHERE next_look_at IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (waits_for, waits_for_method) WHERE waits_for IS NOT NULL;

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

-- Banks in major outage, by the connector that reaches them.
CREATE TABLE outages (
    institution_id TEXT COLLATE "C" NOT NULL,
    method         TEXT COLLATE "C" NOT NULL,
    next_look_at   BIGINT NOT NULL,
    lease_id       TEXT COLLATE "C",
    lease_until    BIGINT,
    ready_at       BIGINT GENERATED ALWAYS AS
        (greatest(next_look_at, coalesce(lease_until, 0))) STORED,
    PRIMARY KEY (institution_id, method)
);

CREATE INDEX outages_ready ON outages (ready_at);

CREATE TABLE watches (
    watch_id      TEXT COLLATE "C" PRIMARY KEY,
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
    CHECK ((settled_at IS NULL) = (state IN ('watching', 'awaiting-user', 'delayed')))
);

-- The open watches of a job, and the promise that a client has one for each job and callback: the URL
-- may be longer than an index takes.
CREATE UNIQUE INDEX watches_open ON watches (job_id, client_id, md5(callback_url))
    WHERE settled_at IS NULL;
CREATE INDEX watches_of_job ON watches (job_id, watch_id);
CREATE INDEX watches_of_client ON watches (client_id, watch_id);
CREATE INDEX watches_of_client_in_state ON watches (client_id, state, watch_id);
CREATE INDEX watches_in_state ON watches (state, watch_id);
CREATE INDEX watches_ended ON watches (settled_at) WHERE settled_at IS NOT NULL;

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

CREATE TABLE events (
    event_id   TEXT COLLATE "C" PRIMARY KEY,
    watch_id   TEXT COLLATE "C" NOT NULL REFERENCES watches (watch_id) ON DELETE CASCADE,
    -- the exact text that is signed and posted
    body       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX events_of_watch ON events (watch_id, event_id);

CREATE TABLE deliveries (
    delivery_id     TEXT COLLATE "C" PRIMARY KEY,
    event_id        TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES events (event_id) ON DELETE CASCADE,
    -- these three are the watch's, kept here to find and claim deliveries without a join
    watch_id        TEXT COLLATE "C" NOT NULL,
    client_id       BIGINT NOT NULL,
    host            TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK
        (state IN ('pending', 'delivered', 'dead', 'expired', 'superseded', 'cancelled')),
    -- none unless it is pending
    next_attempt_at BIGINT CHECK ((next_attempt_at IS NOT NULL) = (state = 'pending')),
    deadline        BIGINT,
    attempts        BIGINT NOT NULL DEFAULT 0,
    round_attempts  BIGINT NOT NULL DEFAULT 0,
    lease_id        TEXT COLLATE "C",
    lease_until     BIGINT,
    -- when its state last changed
    updated_at      BIGINT NOT NULL,
    -- when it may be claimed
    ready_at        BIGINT GENERATED ALWAYS AS
        (CASE WHEN next_attempt_at IS NULL THEN NULL
              ELSE greatest(next_attempt_at, coalesce(lease_until, 0)) END) STORED
);

CREATE INDEX deliveries_ready ON deliveries (host, ready_at) WHERE ready_at IS NOT NULL;
-- Events with a deadline, which are tried at a paused host too.
CREATE INDEX deliveries_spoiling ON deliveries (host, ready_at)
    WHERE ready_at IS NOT NULL AND deadline IS NOT NULL;
-- Those in flight: few, and asked for by the watch of which another one is due.
CREATE INDEX deliveries_leased ON deliveries (watch_id, lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX deliveries_of_watch ON deliveries (watch_id);
CREATE INDEX deliveries_of_client_in_state ON deliveries (client_id, state, updated_at, delivery_id);
-- For the operator, who sees all clients'.
CREATE INDEX deliveries_in_state ON deliveries (state, updated_at, delivery_id);

-- Callback hosts whose latest attempt failed.
CREATE TABLE failing_hosts (
    host         TEXT COLLATE "C" PRIMARY KEY,
    -- attempts in a row
    failures     BIGINT  NOT NULL,
    -- since it last answered
    pauses       BIGINT  NOT NULL,
    -- 0 if it was not paused
    paused_until BIGINT  NOT NULL,
    -- true while one attempt finds out whether it answers again
    probing      BOOLEAN NOT NULL,
    failed_at    BIGINT  NOT NULL
);

CREATE INDEX hosts_paused ON failing_hosts (paused_until) WHERE paused_until > 0;
CREATE INDEX hosts_by_failure ON failing_hosts (failed_at);

CREATE TABLE attempts (
    delivery_id TEXT COLLATE "C" NOT NULL REFERENCES deliveries (delivery_id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,
    -- the claim it was made under: recording it again changes nothing
    lease_id    TEXT COLLATE "C" NOT NULL,
    started_at  BIGINT NOT NULL,
    duration    BIGINT NOT NULL,
    status      BIGINT,
    error       TEXT,
    response    TEXT,
    PRIMARY KEY (delivery_id, number)
);

-- Jobs that failed because the bank was unavailable, since the connection last succeeded.
CREATE TABLE connection_failures (
    connection_id TEXT COLLATE "C" NOT NULL,
    job_id        TEXT COLLATE "C" NOT NULL,
    failed_at     BIGINT NOT NULL,
    PRIMARY KEY (connection_id, job_id)
);

CREATE INDEX connection_failures_by_age ON connection_failures (failed_at);
