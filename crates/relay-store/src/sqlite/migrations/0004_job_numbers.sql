-- Jobs are numbered in the order in which they came, and watches name theirs by its number. Basiq's ids are
-- random: an index by them has a page of its own for each row that is written, one by numbers has a few at its end.
-- Run without foreign keys: dropping a table would delete what refers to its rows.

CREATE TABLE numbered_jobs (
    job_no       INTEGER PRIMARY KEY,
    job_id       TEXT    NOT NULL UNIQUE,
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

INSERT INTO numbered_jobs (job_no, job_id, next_look_at, urgency, joined, lease_id, lease_until, memory,
        waits_for, waits_for_method, user_id, connection_id, hinted_at, answering_until, answering_challenge)
    SELECT rowid, job_id, next_look_at, urgency, joined, lease_id, lease_until, memory,
        waits_for, waits_for_method, user_id, connection_id, hinted_at, answering_until, answering_challenge
    FROM jobs ORDER BY rowid;

DROP TABLE jobs;
ALTER TABLE numbered_jobs RENAME TO jobs;

CREATE INDEX jobs_ready ON jobs (urgency, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (waits_for, waits_for_method) WHERE waits_for IS NOT NULL;
-- For hints, and for the operator, who searches watches by whatever is known of them.
CREATE INDEX jobs_by_connection ON jobs (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX jobs_by_user ON jobs (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE numbered_watches (
    watch_id      TEXT    PRIMARY KEY,
    client_id     INTEGER NOT NULL REFERENCES clients (client_id),
    job_no        INTEGER NOT NULL REFERENCES jobs (job_no),
    -- the job's, kept here to be read without a join
    job_id        TEXT    NOT NULL,
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
    -- the trace of the call that registered the watch, as its `traceparent` said it
    traceparent   TEXT,
    CHECK ((settled_at IS NULL) = (state IN ('watching', 'awaiting-user', 'delayed')))
) STRICT;

INSERT INTO numbered_watches (watch_id, client_id, job_no, job_id, callback_url, callback_host, operation,
        events, until_step, locale, metadata, state, progress, created_at, updated_at, settled_at, traceparent)
    SELECT w.watch_id, w.client_id, j.job_no, w.job_id, w.callback_url, w.callback_host, w.operation,
        w.events, w.until_step, w.locale, w.metadata, w.state, w.progress, w.created_at, w.updated_at,
        w.settled_at, w.traceparent
    FROM watches w CROSS JOIN jobs j ON j.job_id = w.job_id ORDER BY w.rowid;

DROP TABLE watches;
ALTER TABLE numbered_watches RENAME TO watches;

-- The open watches of a job, and the promise that a client has one for each job and callback.
CREATE UNIQUE INDEX watches_open ON watches (job_no, client_id, callback_url)
    WHERE settled_at IS NULL;
CREATE INDEX watches_of_job ON watches (job_no, watch_id);
CREATE INDEX watches_of_client ON watches (client_id, watch_id);
CREATE INDEX watches_of_client_in_state ON watches (client_id, state, watch_id);
CREATE INDEX watches_in_state ON watches (state, watch_id);
CREATE INDEX watches_ended ON watches (settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX watches_of_host ON watches (callback_host, watch_id);

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
