//! What holds statements to their indexes, whatever PostgreSQL knows of the tables. Statistics and plans may be from
//! an hour in which no watch was open: to a plan of then all open watches are as good as none, and it reads each of
//! them for every row that it is given. Settings cannot rule that out, the form of a condition can.

/// Equal to the value that another row has, and looked for in an index for each such row: a condition of this form
/// cannot be met by joining all with all.
macro_rules! each {
    ($column:literal, $value:literal) => {
        concat!($column, " = ANY (ARRAY[", $value, "])")
    };
}
pub(super) use each;

/// Of an open watch that is found by its id. `settled_at IS NULL` says the same, and has the index read that holds
/// all those that are open.
macro_rules! is_open {
    ($watch:literal) => {
        concat!($watch, ".state <> ALL ('{settled,cancelled}')")
    };
}
pub(super) use is_open;

/// Of a job that is watched. `next_look_at IS NOT NULL` says the same, and has an index read that holds all that are.
macro_rules! is_watched {
    ($job:literal) => {
        concat!("coalesce(", $job, ".next_look_at, -1) <> -1")
    };
}
pub(super) use is_watched;

/// That there is no such row, asked for each row by itself. `NOT EXISTS` may be asked once, for all rows there are.
macro_rules! none {
    ($from:expr) => {
        concat!("(SELECT 1 FROM ", $from, " LIMIT 1) IS NULL")
    };
}
pub(super) use none;
