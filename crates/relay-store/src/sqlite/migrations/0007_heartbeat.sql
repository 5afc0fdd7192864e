-- What a health check writes, and when the relay last ran by its clock: a clock that was set back meanwhile shows.
CREATE TABLE heartbeat (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    beats   INTEGER NOT NULL,
    seen_at INTEGER
) STRICT;
