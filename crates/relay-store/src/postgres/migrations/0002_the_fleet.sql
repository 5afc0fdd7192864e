-- What relays that share the store divide or have in common.

-- Relays at work, each with its latest sign of life.
CREATE TABLE relays (
    relay_id TEXT COLLATE "C" PRIMARY KEY,
    seen_at  BIGINT NOT NULL
);

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
