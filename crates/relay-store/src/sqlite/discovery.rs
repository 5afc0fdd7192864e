//! Lists of people's jobs: claims the due ones, and makes watches of the jobs that they found.

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::ErrorChain;
use rusqlite::Connection;
use tracing::error;

use crate::{
    Claim, DiscoveryStore, DueJob, DueList, FoundJob, JobListResult, ListResult, NewJobs, NewWatch,
    RecordedLists, Registration, StoreError,
    dispatch::NewWorkClaim,
    rows::{self, IdBytes},
    rules::{JobHistory, JobOfSubscription, jobs_of_subscriptions, watch_of},
    sqlite::{
        SqliteStore,
        due_rows::DueRows,
        file_health::FileHealth,
        notices,
        registration::register,
        statement::{execute, execute_each, fetch_optional, scalar},
        subscription_ends::{self, REST_LIST},
        subscriptions,
    },
};

/// Finds the due lists. The keys are bytes, so that a damaged text is one too.
pub(super) const DUE: &str = "SELECT CAST(user_id AS BLOB) FROM due_lists WHERE ready_at <= ?1 \
    ORDER BY ready_at LIMIT ?2";

/// Finds the due lists from the other end of the index.
pub(super) const LATEST_DUE: &str = "SELECT CAST(user_id AS BLOB) FROM due_lists WHERE ready_at <= ?1 \
    ORDER BY ready_at DESC LIMIT ?2";

pub(super) const CLAIMED: &str =
    "SELECT user_id, next_list_at, missing_since FROM due_lists WHERE user_id = CAST(?1 AS TEXT)";

pub(super) const LEASE: &str =
    "UPDATE due_lists SET lease_id = ?2, lease_until = ?3 WHERE user_id = CAST(?1 AS TEXT)";

pub(super) const PUT_OFF: &str = "UPDATE due_lists SET lease_id = NULL, lease_until = NULL, next_list_at = ?2 \
    WHERE user_id = CAST(?1 AS TEXT)";

pub(super) const DUE_LISTS: DueRows<Vec<u8>, DueList> = DueRows {
    due: [DUE, LATEST_DUE],
    row: CLAIMED,
    lease: LEASE,
    put_off: PUT_OFF,
    read: |row, lease| rows::due_list(row, lease),
    report: |failure| {
        error!(error = %ErrorChain(failure), "a list of jobs cannot be read and is put off");
    },
    skipped: |rows| &mut rows.lists,
};

pub(super) const NEXT_DUE: &str = "SELECT min(ready_at) FROM due_lists";

const HOLD: &str = "SELECT 1 FROM due_lists WHERE user_id = ?1 AND lease_id = ?2";

/// What is known of a job: see [`JobHistory`]. A watch was cancelled with its subscription if both ended at the same time.
pub(super) const HISTORY: &str = "SELECT ?2 AS job_id, EXISTS (SELECT 1 FROM seen_jobs \
        WHERE subscription_id = ?1 AND job_id = ?2) AS is_seen, \
    EXISTS (SELECT 1 FROM jobs j CROSS JOIN watches w ON w.job_no = j.job_no \
        WHERE j.job_id = ?2 AND w.client_id = ?3 AND w.callback_url = ?4 \
        AND (w.state = 'cancelled' AND w.settled_at = (SELECT s.ended_at FROM subscriptions s \
            WHERE s.subscription_id = w.subscription_id)) IS NOT TRUE) AS is_watched";

const SEE: &str = "INSERT INTO seen_jobs (subscription_id, job_id, seen_at) VALUES (?1, ?2, ?3) \
    ON CONFLICT DO NOTHING";

/// A hint that came after the call began makes another list follow.
const LISTED: &str = "UPDATE due_lists SET lease_id = NULL, lease_until = NULL, listed_at = ?3, \
    missing_since = NULL, next_list_at = iif(hinted_at > ?3, min(hinted_at, ?2), ?2) WHERE user_id = ?1";

/// A hint that came after the call began makes another list follow here too.
const NOT_LISTED: &str = "UPDATE due_lists SET lease_id = NULL, lease_until = NULL, missing_since = ?3, \
    next_list_at = iif(hinted_at > ?4, min(hinted_at, ?2), ?2) WHERE user_id = ?1";

const MISSING: &str = "SELECT missing_since FROM due_lists WHERE user_id = ?1";

#[async_trait]
impl DiscoveryStore for SqliteStore {
    async fn claim_due_lists(&self, claim: Claim) -> Result<Vec<DueList>, StoreError> {
        self.claim_rows(&DUE_LISTS, claim).await
    }

    async fn record_lists(&self, lists: Vec<JobListResult>) -> Result<RecordedLists, StoreError> {
        let (dispatch, health) = (self.0.new_jobs.clone(), self.0.health.clone());
        let recorded = self.write(move |connection| record(connection, &lists, &dispatch, &health));
        let (recorded, claim) = recorded.await?;
        if let Some(claim) = claim {
            claim.send();
        }
        Ok(recorded)
    }

    async fn next_list_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE)
            .fetch_one(self.readers()?)
            .await;
        self.due_if_undamaged(due)
    }
}

/// Records lists. Returns their effect, and the new jobs that were claimed at once.
fn record(
    connection: &Connection,
    lists: &[JobListResult],
    dispatch: &NewJobs,
    health: &FileHealth,
) -> Result<(RecordedLists, Option<NewWorkClaim<DueJob>>), StoreError> {
    let mut recorded = RecordedLists::default();
    let mut found: Vec<(NewWatch, IdBytes)> = Vec::new();
    for list in lists {
        let claim = (list.user_id.as_str(), list.lease.to_bytes());
        if scalar::<i64>(connection, HOLD, claim)?.is_none() {
            continue;
        }
        match &list.result {
            ListResult::Listed(jobs) => {
                found.extend(new_watches(connection, list, jobs, health)?);
            }
            ListResult::Failed => {}
            ListResult::Unknown {
                ended,
                last_notices,
                ..
            } => {
                recorded.notices += notices::notify(connection, last_notices, list.at)?;
                subscription_ends::close_each(connection, ended, list.at)?;
            }
        }
        finish(connection, list)?;
    }
    let claim = register_found(connection, found, dispatch, &mut recorded)?;
    Ok((recorded, claim))
}

/// Returns the watches of the jobs that are new to the person's subscriptions, each with its subscription. Jobs that
/// the client watches already are noted as seen.
fn new_watches(
    connection: &Connection,
    list: &JobListResult,
    jobs: &[FoundJob],
    health: &FileHealth,
) -> Result<Vec<(NewWatch, IdBytes)>, StoreError> {
    let active = subscriptions::active(connection, list.user_id.as_str(), health)?;
    let mut new = Vec::new();
    for found in jobs_of_subscriptions(&active, jobs) {
        let history = history(connection, &found)?;
        let subscription = found.subscription.id.to_bytes();
        if history.needs_watch() {
            let watch = watch_of(&found, list.max_open, list.at);
            new.push((watch, subscription));
        } else if !history.is_seen {
            let job = found.job.job_id.as_str();
            execute(
                connection,
                SEE,
                (subscription, job, list.at.as_millisecond()),
            )?;
        }
    }
    Ok(new)
}

fn history(
    connection: &Connection,
    found: &JobOfSubscription<'_>,
) -> Result<JobHistory, StoreError> {
    let subscription = found.subscription;
    let values = (
        subscription.id.to_bytes(),
        found.job.job_id.as_str(),
        subscription.client_id.0,
        subscription.request.callback_url.as_str(),
    );
    let row = fetch_optional(connection, HISTORY, values)?;
    row.map_or_else(|| Ok(JobHistory::default()), |row| JobHistory::read(&row))
}

/// Registers watches, and notes their jobs as seen. Jobs of clients that are at their cap are left to a later list.
fn register_found(
    connection: &Connection,
    found: Vec<(NewWatch, IdBytes)>,
    dispatch: &NewJobs,
    recorded: &mut RecordedLists,
) -> Result<Option<NewWorkClaim<DueJob>>, StoreError> {
    let (new, subscriptions): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let (written, claim) = register(connection, &new, dispatch)?;
    let mut seen = Vec::new();
    for ((new, subscription), written) in new.iter().zip(subscriptions).zip(written) {
        match written {
            Ok(Registration::AtCap) => recorded.waiting_for_room += 1,
            Ok(Registration::Revoked) => {}
            Ok(Registration::Created(_)) => {
                recorded.watches += 1;
                seen.push((subscription, new));
            }
            // the id of a watch that exists
            Ok(Registration::Existing(_)) | Err(_) => seen.push((subscription, new)),
        }
    }
    let seen = seen.iter().map(|(subscription, new)| {
        let job = new.request.job_id.as_str();
        (subscription, job, new.now.as_millisecond())
    });
    execute_each(connection, SEE, seen)?;
    Ok(claim)
}

/// Ends the claim of a list and sets the time of the next one.
fn finish(connection: &Connection, list: &JobListResult) -> Result<(), StoreError> {
    let (user, next) = (list.user_id.as_str(), list.next_list_at.as_millisecond());
    let at = list.at.as_millisecond();
    match &list.result {
        ListResult::Listed(_) => {
            execute(connection, LISTED, (user, next, at))?;
        }
        ListResult::Failed => {
            let since: Option<Option<i64>> = scalar(connection, MISSING, (user,))?;
            execute(connection, NOT_LISTED, (user, next, since.flatten(), at))?;
        }
        ListResult::Unknown { since, .. } => {
            let since = since.as_millisecond();
            execute(connection, NOT_LISTED, (user, next, since, at))?;
        }
    }
    execute(connection, REST_LIST, (user,))?;
    Ok(())
}
