//! Hints from Basiq: which ones were taken, the jobs and lists that they make due, their notices and messages.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::CallbackUrl;

use crate::{
    ForwardedMessage, Hint, HintOutcome, HintStore, HintSubject, StoreError,
    postgres::{PgSession, PgStore, erasure, notices, row::plain, subscription_ends},
    rows::{int, millis, millis_earlier},
    rules::{
        HINTS_REMEMBERED_FOR, JobsOf, LIST_INTERVAL, MOST_HINTED_JOBS, ended_by, fact_key,
        message_row,
    },
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

/// Makes jobs due. `hinted_at` is the due time of the latest look that follows from a hint.
///
/// * If that time is past, the next look is due now, or when the interval is over.
/// * If that time is still to come, that look serves this hint too.
///
/// A look in flight that began before that time is followed by another, see `RECORD_JOBS` in `looks.rs`.
pub(super) const DUE: &str = "UPDATE due_jobs SET urgency = least(urgency, 1), \
    next_look_at = least(next_look_at, greatest($2, coalesce(hinted_at, 0) + $3)), \
    hinted_at = greatest($2, coalesce(hinted_at, 0) + $3) \
    WHERE job_id = ANY($1) AND coalesce(hinted_at, 0) <= $2";

/// Makes the list of a person's jobs due, as [`DUE`] does with jobs.
pub(super) const DUE_LIST: &str = "UPDATE due_lists SET \
    next_list_at = least(next_list_at, greatest($2, coalesce(hinted_at, 0) + $3)), \
    hinted_at = greatest($2, coalesce(hinted_at, 0) + $3) \
    WHERE user_id = $1 AND coalesce(hinted_at, 0) <= $2";

/// Locks the list of a person whose subscriptions end, so that none begins meanwhile.
pub(super) const LOCK_LIST: &str = "SELECT 1 FROM due_lists WHERE user_id = $1 FOR UPDATE";

pub(super) const USER_OF_CONNECTION: &str = "SELECT user_id FROM jobs \
    WHERE connection_id = $1 AND user_id IS NOT NULL LIMIT 1";

/// Adds a message of Basiq's and queues it.
pub(super) const ADD_MESSAGE: &str = "WITH event AS (INSERT INTO events (event_id, source_id, kind, client_id, \
        state, updated_at, created_at, body) VALUES ($1, $1, 'message', 0, 'pending', $2, $2, $3)), \
    message AS (INSERT INTO messages (event_id, callback_url, callback_host, headers, body) \
        VALUES ($1, $4, $5, $6, $7)) \
    INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, pending_since) \
        VALUES ($1, $1, 0, $5, $2, $2)";

/// Changes the URL of messages. There are few: one that was accepted is deleted.
const REDIRECT: &str =
    "UPDATE messages SET callback_url = $1, callback_host = $2 WHERE callback_url <> $1";

const REDIRECT_QUEUED: &str = "UPDATE outbox SET host = $1 \
    WHERE source_id = ANY(ARRAY(SELECT event_id FROM messages)) AND host || '' <> $1";

#[async_trait]
impl HintStore for PgStore {
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError> {
        let passes_on = hint.forward.is_some();
        let outcome = self
            .write(hint, |connection, hint| Box::pin(take(connection, hint)))
            .await?;
        if let HintOutcome::Taken { notices, lists, .. } = outcome {
            if notices > 0 || passes_on {
                self.notify_of_deliveries();
            }
            if lists {
                self.notify_of_lists();
            }
        }
        Ok(outcome)
    }

    async fn redirect_messages(&self, url: &CallbackUrl) -> Result<u64, StoreError> {
        self.write(url, |connection, url| Box::pin(redirect(connection, url)))
            .await
    }
}

async fn redirect(connection: &mut PgSession<'_>, url: &CallbackUrl) -> Result<u64, StoreError> {
    let redirected = sqlx::query(REDIRECT)
        .bind(url.as_str())
        .bind(url.host())
        .execute(&mut *connection)
        .await?;
    sqlx::query(REDIRECT_QUEUED)
        .bind(url.host())
        .execute(connection)
        .await?;
    Ok(redirected.rows_affected())
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
        .bind(millis_earlier(hint.at, HINTS_REMEMBERED_FOR))
        .execute(&mut *connection)
        .await?;
    if erasure::is_erased(connection, hint).await? {
        return Ok(HintOutcome::Erased);
    }
    if let Some(removed) = &hint.removed_user {
        sqlx::query(LOCK_LIST)
            .bind(removed.user_id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    let lists = list(connection, hint).await?;
    let jobs = make_due(connection, hint).await?;
    let notices = tell(connection, hint).await?;
    if let Some(message) = &hint.forward {
        pass_on(connection, message, hint.at).await?;
    }
    Ok(HintOutcome::Taken {
        jobs,
        notices,
        lists,
    })
}

/// Makes the list of the person's jobs due, if somebody subscribed to the person.
async fn list(connection: &mut PgSession<'_>, hint: &Hint) -> Result<bool, StoreError> {
    let user: Option<String> = match &hint.subject {
        None => return Ok(false),
        Some(
            HintSubject::User(user)
            | HintSubject::Connection {
                user_id: Some(user),
                ..
            },
        ) => Some(user.clone()),
        Some(HintSubject::Connection { connection_id, .. }) => {
            sqlx::query_scalar(USER_OF_CONNECTION)
                .bind(connection_id)
                .fetch_optional(&mut *connection)
                .await?
        }
    };
    let due = sqlx::query(DUE_LIST)
        .bind(user)
        .bind(hint.at.as_millisecond())
        .bind(millis(LIST_INTERVAL))
        .execute(connection)
        .await?;
    Ok(due.rows_affected() > 0)
}

/// Queues the notices of a hint and ends the subscriptions to a person who is gone, unless an earlier hint reported the
/// same fact.
async fn tell(connection: &mut PgSession<'_>, hint: &Hint) -> Result<u64, StoreError> {
    if hint.notices.is_empty() && ended_by(hint).is_empty() {
        return Ok(0);
    }
    if let Some(fact) = &hint.fact {
        let remembered = sqlx::query(REMEMBER)
            .bind(fact_key(fact))
            .bind(hint.at.as_millisecond())
            .execute(&mut *connection)
            .await?;
        if remembered.rows_affected() == 0 {
            return Ok(0);
        }
    }
    let notices = notices::notify(connection, &hint.notices, hint.at).await?;
    if let Some(removed) = &hint.removed_user {
        let (user, ended) = (&removed.user_id, &removed.subscriptions);
        subscription_ends::close_each(connection, user, ended, hint.at).await?;
    }
    Ok(notices)
}

/// Queues a message of Basiq's.
async fn pass_on(
    connection: &mut PgSession<'_>,
    message: &ForwardedMessage,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = message_row(message, now)?;
    sqlx::query(ADD_MESSAGE)
        .bind(row.event_id)
        .bind(now.as_millisecond())
        .bind(plain(&row.summary))
        .bind(row.callback_url)
        .bind(row.host)
        .bind(row.headers)
        .bind(row.body)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes the watched jobs due that a hint is about. Returns their number.
async fn make_due(connection: &mut PgSession<'_>, hint: &Hint) -> Result<u64, StoreError> {
    let jobs = match &hint.subject {
        Some(subject) => watched_jobs(connection, subject).await?,
        None => Vec::new(),
    };
    if jobs.is_empty() {
        return Ok(0);
    }
    sqlx::query(DUE)
        .bind(&jobs)
        .bind(hint.at.as_millisecond())
        .bind(millis(hint.interval))
        .execute(connection)
        .await?;
    Ok(u64::try_from(jobs.len()).unwrap_or(0))
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
