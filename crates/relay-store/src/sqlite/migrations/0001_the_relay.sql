-- Times are milliseconds since 1970 in UTC. The relay's own ids are 16 bytes, which sort by the time at which they
-- were made. Basiq's ids are random text: jobs are numbered in the order in which they came, and rows name a job by
-- its number. An index by random text has a page of its own for each row that is written, one by numbers a few at its
-- end.
--
-- Work is kept apart from history. `due_jobs`, `due_lists`, `outbox`, `outages` and `failing_hosts` have a row only
-- while there is something to do, and claims change nothing else. `jobs`, `watches`, `subscriptions` and `events` tell
-- what happened.
--
-- Conditions on the rows of `watches` and `events` use OR in place of IN: with more than two values, SQLite builds a
-- temporary table each time it evaluates IN.

CREATE TABLE clients (
    client_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL UNIQUE,
    key_hash        BLOB    NOT NULL UNIQUE,
    secret          TEXT    NOT NULL,
    previous_secret TEXT,
    previous_until  INTEGER,
    -- JSON with the chain and the key, encrypted as the secrets are
    callback_certificate TEXT,
    -- a line for each header, encrypted as the secrets are
    callback_headers TEXT,
    created_at      INTEGER NOT NULL,
    revoked_at      INTEGER
) STRICT;

-- ---------------------------------------------------------------- history

CREATE TABLE jobs (
    job_no        INTEGER PRIMARY KEY,
    job_id        TEXT    NOT NULL UNIQUE,
    -- JSON
    memory        TEXT    NOT NULL,
    -- whose job it is, once known
    user_id       TEXT,
    connection_id TEXT
) STRICT;

-- For hints, and for the operator, who searches watches by whatever is known of them.
CREATE INDEX jobs_of_connection ON jobs (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX jobs_of_user ON jobs (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE watches (
    watch_id      BLOB    PRIMARY KEY,
    client_id     INTEGER NOT NULL REFERENCES clients (client_id),
    job_no        INTEGER NOT NULL REFERENCES jobs (job_no),
    callback_url  TEXT    NOT NULL,
    callback_host TEXT    NOT NULL,
    operation     TEXT,
    events        INTEGER NOT NULL,
    until_step    TEXT,
    locale        TEXT    NOT NULL,
    -- JSON
    metadata      TEXT    NOT NULL,
    state         TEXT    NOT NULL
        CHECK (state = 'watching' OR state = 'settled' OR state = 'awaiting-user' OR state = 'delayed'
            OR state = 'cancelled'),
    -- JSON
    progress      TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    -- none while the watch is open
    settled_at    INTEGER,
    -- the trace of the API call that registered the watch, as its `traceparent` header gave it
    traceparent   TEXT,
    -- the subscription that found the job; none if a client registered the watch
    subscription_id BLOB,
    CHECK ((settled_at IS NULL) = (state <> 'settled' AND state <> 'cancelled'))
) STRICT;

-- The open watches of a job. A client has at most one for each job and callback.
CREATE UNIQUE INDEX watches_open ON watches (job_no, client_id, callback_url)
    WHERE settled_at IS NULL;
CREATE INDEX watches_of_job ON watches (job_no, watch_id);
CREATE INDEX watches_of_client ON watches (client_id, watch_id);
CREATE INDEX watches_of_host ON watches (callback_host, watch_id);
-- For lists by state. Settled watches are so many that a list finds them among all watches of the client.
CREATE INDEX watches_unsettled ON watches (client_id, state, watch_id) WHERE state <> 'settled';
-- The open watches of a subscription.
CREATE INDEX watches_of_subscription ON watches (subscription_id)
    WHERE subscription_id IS NOT NULL AND settled_at IS NULL;

-- The number of watches by client and state. The statements that add and change watches update it, many at once. Only
-- deletion has a trigger: a trigger on the others would run for each row, and copy each page of its statement first.
CREATE TABLE watch_counts (
    client_id INTEGER NOT NULL,
    state     TEXT    NOT NULL,
    n         INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (client_id, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER watch_deleted AFTER DELETE ON watches BEGIN
    UPDATE watch_counts SET n = n - 1 WHERE client_id = OLD.client_id AND state = OLD.state;
    DELETE FROM events WHERE source_id = OLD.watch_id;
END;

CREATE TABLE subscriptions (
    subscription_id BLOB    PRIMARY KEY,
    client_id       INTEGER NOT NULL REFERENCES clients (client_id),
    user_id         TEXT    NOT NULL,
    -- the only connection of interest; none for all of the person's
    connection_id   TEXT,
    callback_url    TEXT    NOT NULL,
    callback_host   TEXT    NOT NULL,
    events          INTEGER NOT NULL,
    notices         INTEGER NOT NULL,
    locale          TEXT    NOT NULL,
    -- JSON
    metadata        TEXT    NOT NULL,
    -- how many notices it had
    noticed         INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    -- none while the subscription is active
    ended_at        INTEGER
) STRICT;

-- The active subscriptions to a person. A client has at most one for each person, connection and callback.
CREATE UNIQUE INDEX subscriptions_active
    ON subscriptions (user_id, client_id, callback_url, ifnull(connection_id, '')) WHERE ended_at IS NULL;
CREATE INDEX subscriptions_of_client ON subscriptions (client_id, subscription_id);
CREATE INDEX subscriptions_of_user ON subscriptions (user_id, subscription_id);
CREATE INDEX subscriptions_of_connection ON subscriptions (connection_id) WHERE connection_id IS NOT NULL;
-- To count them. No other statement has this form of the condition.
CREATE INDEX subscriptions_counted ON subscriptions (client_id) WHERE ifnull(ended_at, 0) = 0;
CREATE INDEX subscriptions_ended ON subscriptions (ended_at) WHERE ended_at IS NOT NULL;

CREATE TRIGGER subscription_deleted AFTER DELETE ON subscriptions BEGIN
    DELETE FROM events WHERE source_id = OLD.subscription_id;
    DELETE FROM seen_jobs WHERE subscription_id = OLD.subscription_id;
END;

-- Jobs that a subscription has found, so that each becomes a watch once.
CREATE TABLE seen_jobs (
    subscription_id BLOB    NOT NULL,
    job_id          TEXT    NOT NULL,
    seen_at         INTEGER NOT NULL,
    PRIMARY KEY (subscription_id, job_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX seen_jobs_by_age ON seen_jobs (seen_at);

-- Each event with its delivery, which has the event's id. The source of an event is its watch, its subscription if it
-- is a notice, or the event itself if it is a message of Basiq's that is passed on. The outbox names one pending event
-- of each source, and the later ones wait.
CREATE TABLE events (
    event_id   BLOB    PRIMARY KEY,
    source_id  BLOB    NOT NULL,
    kind       TEXT    NOT NULL DEFAULT 'job'
        CHECK (kind = 'job' OR kind = 'notice' OR kind = 'message'),
    -- 0 if the event is no client's
    client_id  INTEGER NOT NULL,
    state      TEXT    NOT NULL
        CHECK (state = 'pending' OR state = 'delivered' OR state = 'dead' OR state = 'expired' OR state = 'superseded'
            OR state = 'cancelled'),
    -- when the state last changed
    updated_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deadline   INTEGER,
    -- JSON, the latest attempt last
    attempts   TEXT    NOT NULL DEFAULT '[]',
    -- the exact text that is signed and posted
    body       TEXT    NOT NULL
) STRICT;

CREATE INDEX events_of_source ON events (source_id, event_id);
CREATE INDEX events_from_basiq ON events (created_at) WHERE kind <> 'job';
-- For lists by state. Delivered events are so many that a list finds them among all events of the client's watches.
CREATE INDEX events_undelivered ON events (state, updated_at, event_id)
    WHERE state = 'dead' OR state = 'expired' OR state = 'superseded' OR state = 'cancelled';
CREATE INDEX events_undelivered_of_client ON events (client_id, state, updated_at, event_id)
    WHERE state = 'dead' OR state = 'expired' OR state = 'superseded' OR state = 'cancelled';

-- Messages of Basiq's that are passed on, as they were received.
CREATE TABLE messages (
    event_id     BLOB PRIMARY KEY,
    callback_url TEXT NOT NULL,
    callback_host TEXT NOT NULL,
    -- the headers with Basiq's signature, as JSON
    headers      TEXT NOT NULL,
    body         BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Erased people and connections, by the hash of their ids. The person of a job is known only after the first look at it:
-- watches that are older than the erasure are deleted then.
CREATE TABLE erasures (
    subject   BLOB    PRIMARY KEY,
    erased_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX erasures_by_age ON erasures (erased_at);

-- ---------------------------------------------------------------- work

-- Jobs with an open watch.
CREATE TABLE due_jobs (
    job_no       INTEGER PRIMARY KEY REFERENCES jobs (job_no),
    next_look_at INTEGER NOT NULL,
    -- 0 for a first look, 1 for an open challenge, 2 for a young job, 3 for all others
    urgency      INTEGER NOT NULL,
    -- 1 once a watch was added that the latest claim did not see
    joined       INTEGER NOT NULL,
    lease_id     BLOB,
    lease_until  INTEGER,
    -- the bank in major outage that the job waits for; none again once the bank serves
    waits_for        TEXT,
    waits_for_method TEXT,
    -- when the latest look that follows from a hint is due
    hinted_at    INTEGER,
    -- until when an answer to the open challenge is on its way, or was accepted just now, and which of the job's
    -- challenges that answers; the answer itself is never stored
    answering_until     INTEGER,
    answering_challenge INTEGER,
    -- when the job may be claimed
    ready_at     INTEGER GENERATED ALWAYS AS (max(next_look_at, ifnull(lease_until, 0))) VIRTUAL
) STRICT;

CREATE INDEX due_jobs_ready ON due_jobs (urgency, ready_at);
CREATE INDEX due_jobs_waiting ON due_jobs (waits_for, waits_for_method) WHERE waits_for IS NOT NULL;

-- People with an active subscription: when their jobs are listed next.
CREATE TABLE due_lists (
    user_id       TEXT    PRIMARY KEY,
    next_list_at  INTEGER NOT NULL,
    -- when the latest list was read
    listed_at     INTEGER,
    -- when the latest list that follows from a hint is due
    hinted_at     INTEGER,
    -- since when Basiq does not know the person
    missing_since INTEGER,
    lease_id      BLOB,
    lease_until   INTEGER,
    ready_at      INTEGER GENERATED ALWAYS AS (max(next_list_at, ifnull(lease_until, 0))) VIRTUAL
) STRICT, WITHOUT ROWID;

CREATE INDEX due_lists_ready ON due_lists (ready_at);

-- Events to deliver: one event of each source that has one. So no two events of a source are in flight at a time. Of a
-- watch it is the latest event: a later one takes the row over, and waits until the attempt in flight ends or its lease
-- expires. Of a subscription it is the earliest: later ones follow when it has ended.
CREATE TABLE outbox (
    source_id       BLOB    PRIMARY KEY,
    event_id        BLOB    NOT NULL,
    client_id       INTEGER NOT NULL,
    host            TEXT    NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    deadline        INTEGER,
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- a redelivery begins a new round
    round_attempts  INTEGER NOT NULL DEFAULT 0,
    pending_since   INTEGER NOT NULL,
    lease_id        BLOB,
    lease_until     INTEGER,
    -- when the event may be claimed
    ready_at        INTEGER GENERATED ALWAYS AS (max(next_attempt_at, ifnull(lease_until, 0))) VIRTUAL
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_ready ON outbox (host, ready_at);
-- Events with a deadline, which are tried at a paused host too.
CREATE INDEX outbox_expiring ON outbox (host, ready_at) WHERE deadline IS NOT NULL;

-- Banks in major outage, by the connector that reaches them.
CREATE TABLE outages (
    institution_id TEXT    NOT NULL,
    method         TEXT    NOT NULL,
    next_look_at   INTEGER NOT NULL,
    lease_id       BLOB,
    lease_until    INTEGER,
    ready_at       INTEGER GENERATED ALWAYS AS (max(next_look_at, ifnull(lease_until, 0))) VIRTUAL,
    PRIMARY KEY (institution_id, method)
) STRICT;

CREATE INDEX outages_ready ON outages (ready_at);

-- Callback hosts whose latest attempt failed.
CREATE TABLE failing_hosts (
    host         TEXT    PRIMARY KEY,
    -- attempts in a row
    failures     INTEGER NOT NULL,
    -- since it last answered
    pauses       INTEGER NOT NULL,
    -- 0 if it was not paused
    paused_until INTEGER NOT NULL,
    -- when the first of these pauses began; 0 if there was none
    paused_since INTEGER NOT NULL DEFAULT 0,
    -- 1 while one attempt finds out whether it answers again
    probing      INTEGER NOT NULL,
    failed_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX hosts_paused ON failing_hosts (paused_until) WHERE paused_until > 0;
CREATE INDEX hosts_by_failure ON failing_hosts (failed_at);
CREATE INDEX hosts_by_pause ON failing_hosts (paused_since, host) WHERE paused_since > 0;

-- Callback hosts that an operator paused. A row is there until an operator resumes the host.
CREATE TABLE manual_pauses (
    host      TEXT    PRIMARY KEY,
    paused_at INTEGER NOT NULL,
    -- the operator's name
    paused_by TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Problems that operators were told of. A row is there until they are told that the problem is over.
CREATE TABLE alerts (
    kind    TEXT    NOT NULL,
    -- the callback host, or the relay that told of it, or empty
    subject TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- what was learned

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

-- Jobs that failed because the bank was unavailable, since the connection last succeeded.
CREATE TABLE connection_failures (
    connection_id TEXT    NOT NULL,
    job_id        TEXT    NOT NULL,
    failed_at     INTEGER NOT NULL,
    PRIMARY KEY (connection_id, job_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX connection_failures_by_age ON connection_failures (failed_at);

-- What a health check writes, and when the relay last ran by its clock: a clock that was set back meanwhile shows.
CREATE TABLE heartbeat (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    beats   INTEGER NOT NULL,
    seen_at INTEGER
) STRICT;

-- What the relay did, in numbers, for the console: by minute and hour, and for each bank, host and client by hour and day.
-- Each run of a relay has rows of its own, with its totals of that time. Kept for eight days.
CREATE TABLE activity (
    scope  TEXT    NOT NULL CHECK
        (scope IN ('minute', 'hour', 'bank', 'host', 'client', 'bank-day', 'host-day', 'client-day')),
    -- the start of the minute, hour or day
    since  INTEGER NOT NULL,
    run    BLOB    NOT NULL,
    -- JSON
    counts TEXT    NOT NULL,
    PRIMARY KEY (scope, since, run)
) STRICT;

CREATE INDEX activity_by_age ON activity (since);

-- ---------------------------------------------------------------- the audit log

-- What operators did, in the order of the ids. Rows are only added. The upkeep deletes those before `audit_horizon`.
CREATE TABLE audit (
    audit_id BLOB    PRIMARY KEY,
    at       INTEGER NOT NULL,
    operator TEXT    NOT NULL,
    act      TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    -- the address of the peer
    peer     TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_operator ON audit (operator, audit_id);
CREATE INDEX audit_by_act ON audit (act, audit_id);

-- Entries before this time may be deleted: none while there is no row. The upkeep sets it first, so a deletion by mistake
-- is refused.
CREATE TABLE audit_horizon (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    kept_since INTEGER NOT NULL
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN OLD.at >= (SELECT ifnull(max(kept_since), 0) FROM audit_horizon)
BEGIN
    SELECT RAISE (ABORT, 'the audit log is append-only');
END;

-- `INSERT OR REPLACE` deletes a row without the trigger before.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE audit_id = NEW.audit_id)
BEGIN
    SELECT RAISE (ABORT, 'the audit log is append-only');
END;
