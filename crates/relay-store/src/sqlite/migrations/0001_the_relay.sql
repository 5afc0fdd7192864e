-- Times are milliseconds since 1970 in UTC; ids are text as they are shown.

CREATE TABLE clients (
    client_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL UNIQUE,
    key_hash        BLOB    NOT NULL UNIQUE,
    secret          TEXT    NOT NULL,
    previous_secret TEXT,
    previous_until  INTEGER,
    created_at      INTEGER NOT NULL,
    revoked_at      INTEGER
) STRICT;

CREATE TABLE jobs (
    job_id       TEXT PRIMARY KEY,
    -- none while no watch is open
    next_look_at INTEGER,
    -- 0 for a first look, 1 for an open challenge, 2 for a young job, 3 for all others
    urgency      INTEGER NOT NULL,
    -- 1 once a watch was added that the latest claim did not see
    joined       INTEGER NOT NULL,
    lease_id     TEXT,
    lease_until  INTEGER,
    -- JSON
    memory       TEXT NOT NULL,
    -- the bank in major outage that it waits for; none again once that serves
    waits_for        TEXT,
    waits_for_method TEXT,
    -- whose it is, as far as it tells
    user_id       TEXT,
    connection_id TEXT,
    -- when the latest look that follows from a hint is due
    hinted_at     INTEGER,
    -- until when an answer to its open challenge is on its way, or was accepted just now, and which
    -- of its challenges that answers; the answer itself is never stored
    answering_until     INTEGER,
    answering_challenge INTEGER,
    -- when it may be claimed
    ready_at     INTEGER GENERATED ALWAYS AS (max(next_look_at, ifnull(lease_until, 0))) VIRTUAL
) STRICT;

CREATE INDEX jobs_ready ON jobs (urgency, ready_at) WHERE ready_at IS NOT NULL;

-- Jobs with an open watch, for hints.
CREATE INDEX jobs_of_connection ON jobs (connection_id) WHERE next_look_at IS NOT NULL;
CREATE INDEX jobs_of_user ON jobs (user_id) WHERE next_look_at IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (waits_for, waits_for_method) WHERE waits_for IS NOT NULL;

-- Hints that were taken, to take each once.
CREATE TABLE hints (
    hint_id  TEXT PRIMARY KEY,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX hints_by_age ON hints (taken_at);

-- How long jobs of one kind at one bank take, as JSON: what was seen, and what Basiq says. The bank ''
-- stands for all.
CREATE TABLE paces (
    institution_id TEXT    NOT NULL,
    job_type       TEXT    NOT NULL,
    pace           TEXT    NOT NULL,
    averages       TEXT,
    averages_at    INTEGER,
    used_at        INTEGER NOT NULL,
    PRIMARY KEY (institution_id, job_type)
) STRICT, WITHOUT ROWID;

CREATE INDEX paces_by_use ON paces (used_at);

-- The banks of connections, a fixed number of them: jobs tell their bank only late.
CREATE TABLE connection_banks (
    slot           INTEGER PRIMARY KEY,
    connection_id  TEXT    NOT NULL,
    institution_id TEXT    NOT NULL
) STRICT;

-- Banks in major outage, by the connector that reaches them.
CREATE TABLE outages (
    institution_id TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    next_look_at   INTEGER NOT NULL,
    lease_id       TEXT,
    lease_until    INTEGER,
    ready_at       INTEGER GENERATED ALWAYS AS (max(next_look_at, ifnull(lease_until, 0))) VIRTUAL,
    PRIMARY KEY (institution_id, method)
) STRICT;

CREATE INDEX outages_ready ON outages (ready_at);

CREATE TABLE watches (
    watch_id      TEXT    PRIMARY KEY,
    client_id     INTEGER NOT NULL REFERENCES clients (client_id),
    job_id        TEXT    NOT NULL REFERENCES jobs (job_id),
    callback_url  TEXT    NOT NULL,
    callback_host TEXT    NOT NULL,
    operation     TEXT,
    events        INTEGER NOT NULL,
    until_step    TEXT,
    locale        TEXT    NOT NULL,
    -- JSON
    metadata      TEXT    NOT NULL,
    state         TEXT    NOT NULL
        CHECK (state IN ('watching', 'awaiting-user', 'delayed', 'settled', 'cancelled')),
    -- JSON
    progress      TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    -- none while the watch is open
    settled_at    INTEGER,
    CHECK ((settled_at IS NULL) = (state IN ('watching', 'awaiting-user', 'delayed')))
) STRICT;

-- The open watches of a job, and the promise that a client has one for each job and callback.
CREATE UNIQUE INDEX watches_open ON watches (job_id, client_id, callback_url)
    WHERE settled_at IS NULL;
CREATE INDEX watches_of_job ON watches (job_id, watch_id);
CREATE INDEX watches_of_client ON watches (client_id, watch_id);
CREATE INDEX watches_of_client_in_state ON watches (client_id, state, watch_id);
CREATE INDEX watches_in_state ON watches (state, watch_id);
CREATE INDEX watches_ended ON watches (settled_at) WHERE settled_at IS NOT NULL;

-- Watches counted as they come and go: counting them afresh would take longer the more there are.
CREATE TABLE watch_counts (
    client_id INTEGER NOT NULL,
    state     TEXT    NOT NULL,
    n         INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (client_id, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER watch_added AFTER INSERT ON watches BEGIN
    INSERT INTO watch_counts (client_id, state, n) VALUES (NEW.client_id, NEW.state, 1)
        ON CONFLICT (client_id, state) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER watch_changed AFTER UPDATE OF state ON watches WHEN NEW.state <> OLD.state BEGIN
    UPDATE watch_counts SET n = n - 1 WHERE client_id = OLD.client_id AND state = OLD.state;
    INSERT INTO watch_counts (client_id, state, n) VALUES (NEW.client_id, NEW.state, 1)
        ON CONFLICT (client_id, state) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER watch_deleted AFTER DELETE ON watches BEGIN
    UPDATE watch_counts SET n = n - 1 WHERE client_id = OLD.client_id AND state = OLD.state;
END;

CREATE TABLE events (
    event_id   TEXT    PRIMARY KEY,
    watch_id   TEXT    NOT NULL REFERENCES watches (watch_id) ON DELETE CASCADE,
    -- the exact text that is signed and posted
    body       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX events_of_watch ON events (watch_id, event_id);

CREATE TABLE deliveries (
    delivery_id     TEXT    PRIMARY KEY,
    event_id        TEXT    NOT NULL UNIQUE REFERENCES events (event_id) ON DELETE CASCADE,
    -- these three are the watch's, kept here to find and claim deliveries without a join
    watch_id        TEXT    NOT NULL,
    client_id       INTEGER NOT NULL,
    host            TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK
        (state IN ('pending', 'delivered', 'dead', 'expired', 'superseded', 'cancelled')),
    -- none unless it is pending
    next_attempt_at INTEGER CHECK ((next_attempt_at IS NOT NULL) = (state = 'pending')),
    deadline        INTEGER,
    attempts        INTEGER NOT NULL DEFAULT 0,
    round_attempts  INTEGER NOT NULL DEFAULT 0,
    lease_id        TEXT,
    lease_until     INTEGER,
    -- when its state last changed
    updated_at      INTEGER NOT NULL,
    -- when it may be claimed
    ready_at        INTEGER GENERATED ALWAYS AS (max(next_attempt_at, ifnull(lease_until, 0))) VIRTUAL
) STRICT;

CREATE INDEX deliveries_ready ON deliveries (host, ready_at) WHERE ready_at IS NOT NULL;
-- Events with a deadline, which are tried at a paused host too.
CREATE INDEX deliveries_spoiling ON deliveries (host, ready_at)
    WHERE ready_at IS NOT NULL AND deadline IS NOT NULL;
CREATE INDEX deliveries_leased ON deliveries (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX deliveries_of_watch ON deliveries (watch_id);
CREATE INDEX deliveries_of_client_in_state ON deliveries (client_id, state, updated_at, delivery_id);
-- For the operator, who sees all clients'.
CREATE INDEX deliveries_in_state ON deliveries (state, updated_at, delivery_id);

-- Callback hosts whose latest attempt failed.
CREATE TABLE failing_hosts (
    host         TEXT    PRIMARY KEY,
    -- attempts in a row
    failures     INTEGER NOT NULL,
    -- since it last answered
    pauses       INTEGER NOT NULL,
    -- 0 if it was not paused
    paused_until INTEGER NOT NULL,
    -- 1 while one attempt finds out whether it answers again
    probing      INTEGER NOT NULL,
    failed_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX hosts_paused ON failing_hosts (paused_until) WHERE paused_until > 0;
CREATE INDEX hosts_by_failure ON failing_hosts (failed_at);

CREATE TABLE attempts (
    delivery_id TEXT    NOT NULL REFERENCES deliveries (delivery_id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    -- the claim it was made under: recording it again changes nothing
    lease_id    TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    duration    INTEGER NOT NULL,
    status      INTEGER,
    error       TEXT,
    response    TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- Jobs that failed because the bank was unavailable, since the connection last succeeded.
CREATE TABLE connection_failures (
    connection_id TEXT    NOT NULL,
    job_id        TEXT    NOT NULL,
    failed_at     INTEGER NOT NULL,
    PRIMARY KEY (connection_id, job_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX connection_failures_by_age ON connection_failures (failed_at);
