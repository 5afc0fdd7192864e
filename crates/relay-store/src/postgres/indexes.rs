//! Forms of conditions that make PostgreSQL use the right index, whatever its statistics say.
//!
//! PostgreSQL may cache a plan made while there was no work. That plan expects `due_jobs` and `outbox` to be empty, and
//! later reads all of such a table for each given row. Settings cannot prevent this, but the form of a condition can.
//! A scalar subquery, and a subquery with `OFFSET 0` or a lock, always run for each outer row.

/// True if a column equals a value of another row. PostgreSQL cannot use this form for a hash join or a merge
/// join, so it looks up each value in an index.
macro_rules! each {
    ($column:literal, $value:literal) => {
        concat!($column, " = ANY (ARRAY[", $value, "])")
    };
}
pub(super) use each;

/// True if there is no such row, evaluated separately for each outer row. PostgreSQL may evaluate `NOT EXISTS`
/// once for all rows of a table.
macro_rules! none {
    ($from:expr) => {
        concat!("(SELECT 1 FROM ", $from, " LIMIT 1) IS NULL")
    };
}
pub(super) use none;

/// True if a query returns this value. `IS TRUE` makes PostgreSQL build a hash table of the query's rows, even where
/// hash joins are off.
macro_rules! among {
    ($value:literal, $query:literal) => {
        concat!("(", $value, " IN (", $query, ")) IS TRUE")
    };
}
pub(super) use among;

/// True for the rows `t` of a table that meet a condition together with a row `c` of a CTE. PostgreSQL looks up the
/// positions of these rows first, one row of the CTE after the other.
macro_rules! matching {
    ($table:literal, $cte:literal, $condition:expr) => {
        concat!(
            "ctid = ANY (ARRAY(SELECT t.ctid FROM ",
            $cte,
            " c CROSS JOIN LATERAL (SELECT t.ctid FROM ",
            $table,
            " t WHERE ",
            $condition,
            " OFFSET 0) t))"
        )
    };
}
pub(super) use matching;

/// True for the row `t` of `unsettled_watches` if its watch is open and has the job, the client and the URL of this
/// row. The `+ 0` keeps PostgreSQL from searching all watches of the client.
macro_rules! is_open {
    ($row:literal) => {
        concat!(
            "t.job_id = ",
            $row,
            ".job_id AND t.url_hash = decode(md5(",
            $row,
            ".callback_url), 'hex') AND t.client_id + 0 = ",
            $row,
            ".client_id AND t.state <> 'cancelled'"
        )
    };
}
pub(super) use is_open;

/// True if no watch of this job is open.
macro_rules! is_unwatched {
    ($job:literal) => {
        $crate::postgres::indexes::none!(concat!(
            "unsettled_watches u WHERE u.job_id = ",
            $job,
            " AND u.state <> 'cancelled'"
        ))
    };
}
pub(super) use is_unwatched;

/// True for the row `t` of `undelivered_events` that lists an event `c` in its former state.
macro_rules! is_listed {
    () => {
        "t.client_id = c.client_id AND t.state = c.former_state AND t.updated_at = c.former_change \
         AND t.event_id = c.event_id"
    };
}
pub(super) use is_listed;
