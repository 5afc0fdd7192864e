//! Hints from Basiq: which ones were taken, and the jobs that they make due.

use async_trait::async_trait;

use crate::{
    Hint, HintOutcome, HintStore, HintSubject, StoreError,
    postgres::{PgSession, PgStore},
    rows::{earlier, int, millis},
    rules::{HINTS_REMEMBERED_FOR, JobsOf, MOST_HINTED_JOBS},
};

pub(super) const REMEMBER: &str =
    "INSERT INTO hints (hint_id, taken_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// Deletes up to ten old hints. Each new hint does so, which keeps the table small.
pub(super) const FORGET: &str = "DELETE FROM hints WHERE hint_id = ANY(ARRAY(\
    SELECT hint_id FROM hints WHERE taken_at < $1 ORDER BY taken_at LIMIT 10))";

/// Locks the watched jobs of a connection or a user, which has few.
macro_rules! watched_jobs {
    ($of:literal) => {
        concat!(
            "SELECT d.job_id FROM jobs j CROSS JOIN LATERAL \
                 (SELECT d.job_id FROM due_jobs d WHERE d.job_id = j.job_id FOR UPDATE) d WHERE ",
            $of,
            " LIMIT $2"
        )
    };
}

pub(super) const OF_CONNECTION: &str = watched_jobs!("j.connection_id = $1");

pub(super) const OF_USER: &str = watched_jobs!("j.user_id = $1");

pub(super) const OF_USER_ALONE: &str = watched_jobs!("j.user_id = $1 AND j.connection_id IS NULL");

/// The watched jobs of a connection or a user.
const WATCHED: JobsOf = JobsOf {
    connection: OF_CONNECTION,
    user: OF_USER,
    user_alone: OF_USER_ALONE,
};

/// Makes jobs due. `hinted_at` is when the latest look that follows from a hint is due. If that time is past,
/// this hint's look is due now, or when the interval is over. A look that is under way may have begun before the
/// hint, so `joined` makes another look follow it. If that time is still to come, the planned look serves this
/// hint too.
pub(super) const DUE: &str = "UPDATE due_jobs SET urgency = least(urgency, 1), \
    joined = joined OR coalesce(hinted_at, 0) <= $3, \
    next_look_at = least(next_look_at, greatest($2, coalesce(hinted_at, 0) + $4)), \
    hinted_at = greatest($2, coalesce(hinted_at, 0) + $4) \
    WHERE job_id = ANY($1) AND coalesce(hinted_at, 0) <= $2";

#[async_trait]
impl HintStore for PgStore {
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError> {
        self.write(hint, |connection, hint| Box::pin(take(connection, hint)))
            .await
    }
}

async fn take(connection: &mut PgSession<'_>, hint: &Hint) -> Result<HintOutcome, StoreError> {
    let remembered = sqlx::query(REMEMBER)
        .bind(&hint.id)
        .bind(hint.at.as_millisecond())
        .execute(&mut *connection)
        .await?;
    if remembered.rows_affected() == 0 {
        return Ok(HintOutcome::Again);
    }
    sqlx::query(FORGET)
        .bind(earlier(hint.at, HINTS_REMEMBERED_FOR))
        .execute(&mut *connection)
        .await?;
    let jobs = watched_jobs(connection, &hint.subject).await?;
    if jobs.is_empty() {
        return Ok(HintOutcome::Due(0));
    }
    sqlx::query(DUE)
        .bind(&jobs)
        .bind(hint.at.as_millisecond())
        .bind(earlier(hint.at, hint.interval))
        .bind(millis(hint.interval))
        .execute(connection)
        .await?;
    Ok(HintOutcome::Due(u64::try_from(jobs.len()).unwrap_or(0)))
}

/// Returns the watched jobs that a hint is about.
async fn watched_jobs(
    connection: &mut PgSession<'_>,
    subject: &HintSubject,
) -> Result<Vec<String>, StoreError> {
    let mut jobs: Vec<String> = Vec::new();
    for (statement, id) in WATCHED.lookups(subject) {
        let found: Vec<String> = sqlx::query_scalar(statement)
            .bind(id)
            .bind(int(MOST_HINTED_JOBS - jobs.len()))
            .fetch_all(&mut *connection)
            .await?;
        jobs.extend(found);
    }
    Ok(jobs)
}
