//! Hints: remembers the ones that were taken, and makes their jobs due.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use crate::{
    Hint, HintOutcome, HintStore, HintSubject, StoreError,
    rows::{earlier, int, millis},
    rules::{HINTS_REMEMBERED_FOR, JobsOf, MOST_HINTED_JOBS},
    sqlite::{
        SqliteStore,
        row::json_list,
        statement::{execute, scalars},
    },
};

pub(super) const REMEMBER: &str =
    "INSERT INTO hints (hint_id, taken_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";

/// Deletes up to ten old hints. It runs with each new hint, so the table does not grow without bound.
pub(super) const FORGET: &str = "DELETE FROM hints WHERE hint_id IN \
    (SELECT hint_id FROM hints WHERE taken_at < ?1 ORDER BY taken_at LIMIT 10)";

/// Finds the watched ones among the jobs of a connection or a user.
macro_rules! watched {
    ($of:literal) => {
        concat!(
            "SELECT d.job_no FROM jobs j CROSS JOIN due_jobs d ON d.job_no = j.job_no WHERE ",
            $of,
            " LIMIT ?2"
        )
    };
}

pub(super) const OF_CONNECTION: &str = watched!("j.connection_id = ?1");

pub(super) const OF_USER: &str = watched!("j.user_id = ?1");

pub(super) const OF_USER_ALONE: &str = watched!("j.user_id = ?1 AND j.connection_id IS NULL");

/// The watched jobs of a connection or a user.
const WATCHED: JobsOf = JobsOf {
    connection: OF_CONNECTION,
    user: OF_USER,
    user_alone: OF_USER_ALONE,
};

/// Makes jobs due. `hinted_at` is the due time of the latest look that follows from a hint.
///
/// * If that time is past, the next look is due now, or when the interval is over. A look in flight may have begun
///   before the hint, so `joined` makes another look follow it.
/// * If that time is still to come, that look serves this hint too.
pub(super) const DUE: &str = "UPDATE due_jobs SET urgency = min(urgency, 1), \
    joined = iif(ifnull(hinted_at, 0) <= ?3, 1, joined), \
    next_look_at = min(next_look_at, max(?2, ifnull(hinted_at, 0) + ?4)), \
    hinted_at = max(?2, ifnull(hinted_at, 0) + ?4) \
    WHERE job_no IN (SELECT value FROM json_each(?1)) AND ifnull(hinted_at, 0) <= ?2";

#[async_trait]
impl HintStore for SqliteStore {
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError> {
        self.write(move |connection| take(connection, &hint)).await
    }
}

fn take(connection: &Connection, hint: &Hint) -> Result<HintOutcome, StoreError> {
    let remembered = execute(
        connection,
        REMEMBER,
        params![&hint.id, hint.at.as_millisecond()],
    )?;
    if remembered == 0 {
        return Ok(HintOutcome::Again);
    }
    execute(
        connection,
        FORGET,
        params![earlier(hint.at, HINTS_REMEMBERED_FOR)],
    )?;
    let jobs = watched_jobs(connection, &hint.subject)?;
    if jobs.is_empty() {
        return Ok(HintOutcome::Due(0));
    }
    execute(
        connection,
        DUE,
        params![
            json_list(&jobs),
            hint.at.as_millisecond(),
            earlier(hint.at, hint.interval),
            millis(hint.interval)
        ],
    )?;
    Ok(HintOutcome::Due(u64::try_from(jobs.len()).unwrap_or(0)))
}

/// Finds the open jobs that a hint is about.
fn watched_jobs(connection: &Connection, subject: &HintSubject) -> Result<Vec<i64>, StoreError> {
    let mut jobs: Vec<i64> = Vec::new();
    for (statement, id) in WATCHED.lookups(subject) {
        let found: Vec<i64> = scalars(
            connection,
            statement,
            params![id, int(MOST_HINTED_JOBS - jobs.len())],
        )?;
        jobs.extend(found);
    }
    Ok(jobs)
}
