//! Hints: remembers the ones that were taken, makes their jobs and lists due, and queues their notices and messages.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::CallbackUrl;
use rusqlite::{Connection, params};

use crate::{
    ForwardedMessage, Hint, HintOutcome, HintStore, HintSubject, StoreError,
    rows::{int, millis, millis_earlier},
    rules::{
        HINTS_REMEMBERED_FOR, JobsOf, LIST_INTERVAL, MOST_HINTED_JOBS, ended_by, fact_key,
        message_row,
    },
    sqlite::{
        SqliteStore, erasure, notices,
        row::json_list,
        statement::{execute, scalar, scalars},
        subscription_ends,
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
/// * If that time is past, the next look is due now, or when the interval is over.
/// * If that time is still to come, that look serves this hint too.
///
/// A look in flight that began before that time is followed by another, see `LOOK_AGAIN` in `looks.rs`.
pub(super) const DUE: &str = "UPDATE due_jobs SET urgency = min(urgency, 1), \
    next_look_at = min(next_look_at, max(?2, ifnull(hinted_at, 0) + ?3)), \
    hinted_at = max(?2, ifnull(hinted_at, 0) + ?3) \
    WHERE job_no IN (SELECT value FROM json_each(?1)) AND ifnull(hinted_at, 0) <= ?2";

/// Makes the list of a person's jobs due, as [`DUE`] does with jobs. It finds the person of a connection by the jobs of
/// the connection.
pub(super) const DUE_LIST: &str = "UPDATE due_lists SET \
    next_list_at = min(next_list_at, max(?2, ifnull(hinted_at, 0) + ?3)), \
    hinted_at = max(?2, ifnull(hinted_at, 0) + ?3) \
    WHERE user_id = ?1 AND ifnull(hinted_at, 0) <= ?2";

pub(super) const USER_OF_CONNECTION: &str = "SELECT user_id FROM jobs \
    WHERE connection_id = ?1 AND user_id IS NOT NULL ORDER BY job_no DESC LIMIT 1";

const ADD_EVENT: &str = "INSERT INTO events (event_id, source_id, kind, client_id, state, \
    updated_at, created_at, body) VALUES (?1, ?1, 'message', 0, 'pending', ?2, ?2, ?3)";

const ADD_MESSAGE: &str = "INSERT INTO messages (event_id, callback_url, callback_host, headers, body) \
    VALUES (?1, ?2, ?3, ?4, ?5)";

const QUEUE: &str = "INSERT INTO outbox (source_id, event_id, client_id, host, next_attempt_at, \
    pending_since) VALUES (?1, ?1, 0, ?2, ?3, ?3)";

/// Changes the URL of messages. There are few: one that was accepted is deleted.
const REDIRECT: &str =
    "UPDATE messages SET callback_url = ?1, callback_host = ?2 WHERE callback_url <> ?1";

const REDIRECT_QUEUED: &str = "UPDATE outbox SET host = ?1 \
    WHERE source_id IN (SELECT event_id FROM messages) AND host <> ?1";

#[async_trait]
impl HintStore for SqliteStore {
    async fn take_hint(&self, hint: Hint) -> Result<HintOutcome, StoreError> {
        self.write(move |connection| take(connection, &hint)).await
    }

    async fn redirect_messages(&self, url: &CallbackUrl) -> Result<u64, StoreError> {
        let url = url.clone();
        self.write(move |connection| {
            let redirected = execute(connection, REDIRECT, (url.as_str(), url.host()))?;
            execute(connection, REDIRECT_QUEUED, (url.host(),))?;
            Ok(redirected)
        })
        .await
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
        params![millis_earlier(hint.at, HINTS_REMEMBERED_FOR)],
    )?;
    if erasure::is_erased(connection, hint)? {
        return Ok(HintOutcome::Erased);
    }
    let lists = list(connection, hint)?;
    let notices = tell(connection, hint)?;
    if let Some(message) = &hint.forward {
        pass_on(connection, message, hint.at)?;
    }
    let jobs = make_due(connection, hint)?;
    Ok(HintOutcome::Taken {
        jobs,
        notices,
        lists,
    })
}

/// Makes the list of the person's jobs due, if somebody subscribed to the person.
fn list(connection: &Connection, hint: &Hint) -> Result<bool, StoreError> {
    let user = match &hint.subject {
        None => return Ok(false),
        Some(
            HintSubject::User(user)
            | HintSubject::Connection {
                user_id: Some(user),
                ..
            },
        ) => Some(user.clone()),
        Some(HintSubject::Connection { connection_id, .. }) => {
            scalar(connection, USER_OF_CONNECTION, (connection_id,))?
        }
    };
    let values = (user, hint.at.as_millisecond(), millis(LIST_INTERVAL));
    Ok(execute(connection, DUE_LIST, values)? > 0)
}

/// Queues the notices of a hint and ends the subscriptions to a person who is gone, unless an earlier hint reported the
/// same fact.
fn tell(connection: &Connection, hint: &Hint) -> Result<u64, StoreError> {
    let ended = ended_by(hint);
    if hint.notices.is_empty() && ended.is_empty() {
        return Ok(0);
    }
    if let Some(fact) = &hint.fact {
        let values = (fact_key(fact), hint.at.as_millisecond());
        if execute(connection, REMEMBER, values)? == 0 {
            return Ok(0);
        }
    }
    let notices = notices::notify(connection, &hint.notices, hint.at)?;
    subscription_ends::close_each(connection, ended, hint.at)?;
    Ok(notices)
}

/// Queues a message of Basiq's.
fn pass_on(
    connection: &Connection,
    message: &ForwardedMessage,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (row, now) = (message_row(message, now)?, now.as_millisecond());
    execute(connection, ADD_EVENT, (row.event_id, now, row.summary))?;
    let kept = (
        row.event_id,
        row.callback_url,
        row.host,
        row.headers,
        row.body,
    );
    execute(connection, ADD_MESSAGE, kept)?;
    execute(connection, QUEUE, (row.event_id, row.host, now))?;
    Ok(())
}

/// Makes the watched jobs due that a hint is about. Returns their number.
fn make_due(connection: &Connection, hint: &Hint) -> Result<u64, StoreError> {
    let jobs = match &hint.subject {
        Some(subject) => watched_jobs(connection, subject)?,
        None => Vec::new(),
    };
    if jobs.is_empty() {
        return Ok(0);
    }
    execute(
        connection,
        DUE,
        params![
            json_list(&jobs),
            hint.at.as_millisecond(),
            millis(hint.interval)
        ],
    )?;
    Ok(u64::try_from(jobs.len()).unwrap_or(0))
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
