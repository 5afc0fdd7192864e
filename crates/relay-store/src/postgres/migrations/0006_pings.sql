-- What health checks write. Each takes a row at random, so that those of many relays do not wait for each other.
CREATE TABLE pings (
    slot  SMALLINT PRIMARY KEY,
    pings BIGINT NOT NULL
);
