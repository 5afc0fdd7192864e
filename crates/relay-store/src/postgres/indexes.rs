//! Forms of conditions that make PostgreSQL use the right index, whatever its statistics say.
//!
//! PostgreSQL may cache a plan made while no watch was open. That plan expects the index of open watches to be
//! empty, and later scans every open watch for each given row. Settings cannot prevent this, but the form of a
//! condition can.

/// True if a column equals a value of another row. PostgreSQL cannot use this form for a hash join or a merge
/// join, so it looks up each value in an index.
macro_rules! each {
    ($column:literal, $value:literal) => {
        concat!($column, " = ANY (ARRAY[", $value, "])")
    };
}
pub(super) use each;

/// True for an open watch that is found by its id. `settled_at IS NULL` means the same, but PostgreSQL would then
/// read the index of all open watches.
macro_rules! is_open {
    ($watch:literal) => {
        concat!($watch, ".state <> ALL ('{settled,cancelled}')")
    };
}
pub(super) use is_open;

/// True for a watched job. `next_look_at IS NOT NULL` means the same, but PostgreSQL would then read the index of
/// all watched jobs.
macro_rules! is_watched {
    ($job:literal) => {
        concat!("coalesce(", $job, ".next_look_at, -1) <> -1")
    };
}
pub(super) use is_watched;

/// True if there is no such row, evaluated separately for each outer row. PostgreSQL may evaluate `NOT EXISTS`
/// once for all rows of a table.
macro_rules! none {
    ($from:expr) => {
        concat!("(SELECT 1 FROM ", $from, " LIMIT 1) IS NULL")
    };
}
pub(super) use none;
