//! Lists of people's jobs: claims the due ones, and makes watches of the jobs that they found.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use relay_domain::{ErrorChain, LeaseId};
use sqlx::Row;
use tracing::error;

use crate::{
    Claim, DiscoveryStore, DueJob, DueList, FoundJob, JobListResult, ListResult, NewWatch,
    RecordedLists, Registration, StoreError,
    dispatch::NewWorkClaim,
    postgres::{
        PgSession, PgStore,
        clock::claim_now,
        notices,
        registration::{JobDispatchContext, LOCK_CLIENTS, SHARE_CLIENTS, register},
        row::columns,
        subscription_ends::{self, REST_LISTS},
        subscriptions,
    },
    rows::{self, IdBytes, UNREADABLE_RETRY_AFTER, int, millis, millis_later, time},
    rules::{JobHistory, JobOfSubscription, jobs_of_subscriptions, watch_of},
};

pub(super) const LEASE: &str = concat!(
    "UPDATE due_lists SET lease_id = $3, lease_until = ",
    claim_now!("$1"),
    " + $4 WHERE user_id = ANY(ARRAY(SELECT user_id FROM due_lists WHERE ready_at <= ",
    claim_now!("$1"),
    " ORDER BY ready_at LIMIT $2 FOR UPDATE SKIP LOCKED)) \
     RETURNING user_id, next_list_at, missing_since"
);

/// Frees lists that cannot be read, and puts them off.
pub(super) const PUT_OFF: &str = "UPDATE due_lists SET lease_id = NULL, lease_until = NULL, next_list_at = $2 \
    WHERE user_id = ANY($1)";

pub(super) const NEXT_DUE: &str = "SELECT min(ready_at) FROM due_lists";

/// Finds the clients that subscribed to these people.
pub(super) const CLIENTS: &str = "SELECT DISTINCT client_id FROM subscriptions \
    WHERE user_id = ANY($1) AND ended_at IS NULL";

/// Locks the lists whose claims still hold, in the order of the people's ids.
pub(super) const HOLD: &str = "SELECT l.user_id, l.lease_id FROM unnest($1::text[], $2::bytea[]) n (user_id, lease_id) \
    CROSS JOIN LATERAL (SELECT l.user_id, l.lease_id FROM due_lists l \
        WHERE l.user_id = n.user_id AND l.lease_id = n.lease_id FOR UPDATE) l";

/// What is known of jobs: see [`JobHistory`]. A watch was cancelled with its subscription if both ended at the same time.
pub(super) const HISTORY: &str = "SELECT n.job_id, (SELECT 1 FROM seen_jobs s \
        WHERE s.subscription_id = $1 AND s.job_id = n.job_id) IS NOT NULL AS is_seen, \
    (SELECT 1 FROM watches w WHERE w.job_id = n.job_id AND w.client_id + 0 = $3 AND w.callback_url = $4 \
        AND (w.state = 'cancelled' AND w.settled_at = (SELECT s.ended_at FROM subscriptions s \
            WHERE s.subscription_id = w.subscription_id)) IS NOT TRUE LIMIT 1) IS NOT NULL AS is_watched \
    FROM unnest($2::text[]) n (job_id)";

pub(super) const SEE: &str = "INSERT INTO seen_jobs (subscription_id, job_id, seen_at) \
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[]) ON CONFLICT DO NOTHING";

/// A hint that came after the call began makes another list follow.
pub(super) const LISTED: &str = "UPDATE due_lists SET lease_id = NULL, lease_until = NULL, listed_at = $3, \
    missing_since = NULL, next_list_at = CASE WHEN hinted_at > $3 THEN least(hinted_at, $2) ELSE $2 END \
    WHERE user_id = $1";

/// Keeps the time since which the person is missing if no other one is given. A hint that came after the call began
/// makes another list follow here too.
pub(super) const NOT_LISTED: &str = "UPDATE due_lists SET lease_id = NULL, lease_until = NULL, \
    missing_since = coalesce($4, missing_since), \
    next_list_at = CASE WHEN hinted_at > $3 THEN least(hinted_at, $2) ELSE $2 END WHERE user_id = $1";

/// Watches to register, each with its subscription.
type FoundWatches = Vec<(NewWatch, IdBytes)>;

/// The effect of lists, and the new jobs that were claimed at once.
type Recorded = (RecordedLists, Option<NewWorkClaim<DueJob>>);

#[async_trait]
impl DiscoveryStore for PgStore {
    async fn claim_due_lists(&self, claim: Claim) -> Result<Vec<DueList>, StoreError> {
        let now = self.now(claim.now);
        self.write((claim, now), |connection, (claim, now)| {
            Box::pin(claim_due(connection, *claim, *now))
        })
        .await
    }

    async fn record_lists(
        &self,
        mut lists: Vec<JobListResult>,
    ) -> Result<RecordedLists, StoreError> {
        lists.sort_by(|one, other| one.user_id.cmp(&other.user_id));
        let context = JobDispatchContext {
            dispatch: &self.0.new_jobs,
            lease_clock: self.0.lease_clock,
        };
        for lock in [SHARE_CLIENTS, LOCK_CLIENTS] {
            let recorded = self
                .write(
                    (&lists, lock, context),
                    |connection, (lists, lock, context)| {
                        Box::pin(record(connection, lists, lock, *context))
                    },
                )
                .await?;
            if let Some((recorded, claim)) = recorded {
                if let Some(claim) = claim {
                    claim.send();
                }
                self.notify_of_found(recorded);
                return Ok(recorded);
            }
        }
        Ok(RecordedLists::default())
    }

    async fn next_list_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let due = sqlx::query_scalar(NEXT_DUE).fetch_one(self.pool()).await?;
        Ok(time(due))
    }
}

async fn claim_due(
    connection: &mut PgSession<'_>,
    claim: Claim,
    now: Option<i64>,
) -> Result<Vec<DueList>, StoreError> {
    let lease = LeaseId::new(claim.now);
    let rows = sqlx::query(LEASE)
        .bind(now)
        .bind(int(claim.limit))
        .bind(lease.to_bytes())
        .bind(millis(claim.lease))
        .fetch_all(&mut *connection)
        .await?;
    let mut lists = Vec::with_capacity(rows.len());
    let mut unreadable: Vec<String> = Vec::new();
    for row in &rows {
        match rows::due_list(row, lease) {
            Ok(list) => lists.push(list),
            Err(failure) => {
                error!(error = %ErrorChain(&failure), "a list of jobs cannot be read and is put off");
                unreadable.push(row.try_get("user_id")?);
            }
        }
    }
    if !unreadable.is_empty() {
        sqlx::query(PUT_OFF)
            .bind(unreadable)
            .bind(millis_later(claim.now, UNREADABLE_RETRY_AFTER))
            .execute(connection)
            .await?;
    }
    Ok(lists)
}

/// Records lists. Returns `None` if a client is so close to its cap that its row must be locked exclusively.
async fn record(
    connection: &mut PgSession<'_>,
    lists: &[JobListResult],
    lock: &'static str,
    context: JobDispatchContext<'_>,
) -> Result<Option<Recorded>, StoreError> {
    let lists = hold(connection, lists, lock).await?;
    let mut found = FoundWatches::new();
    for list in &lists {
        if let ListResult::Listed(jobs) = &list.result {
            found.extend(new_watches(connection, list, jobs).await?);
        }
    }
    let (new, of): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let Some((answers, claim)) = register(connection, &new, lock, context).await? else {
        return Ok(None);
    };
    let mut recorded = see(connection, &new, &of, answers).await?;
    for list in lists {
        if let ListResult::Unknown {
            ended,
            last_notices,
            ..
        } = &list.result
        {
            recorded.notices += notices::notify(connection, last_notices, list.at).await?;
            subscription_ends::close_each(connection, &list.user_id, ended, list.at).await?;
        }
        finish(connection, list).await?;
    }
    Ok(Some((recorded, claim)))
}

/// Returns the lists whose claims still hold, and locks them and the clients that subscribed.
async fn hold<'l>(
    connection: &mut PgSession<'_>,
    lists: &'l [JobListResult],
    lock: &'static str,
) -> Result<Vec<&'l JobListResult>, StoreError> {
    let users = columns(lists, |list| list.user_id.as_str());
    let clients: Vec<i64> = sqlx::query_scalar(CLIENTS)
        .bind(&users)
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query(lock)
        .bind(clients)
        .execute(&mut *connection)
        .await?;
    let held: Vec<(String, IdBytes)> = sqlx::query_as(HOLD)
        .bind(&users)
        .bind(columns(lists, |list| list.lease.to_bytes()))
        .fetch_all(connection)
        .await?;
    let held = held
        .iter()
        .map(|(user, lease)| (user.as_str(), LeaseId::from(*lease)));
    let held: HashSet<_> = held.collect();
    let lists = lists
        .iter()
        .filter(|list| held.contains(&(list.user_id.as_str(), list.lease)));
    Ok(lists.collect())
}

/// Returns the watches of the jobs that are new to the person's subscriptions. Jobs that the client watches already
/// are noted as seen.
async fn new_watches(
    connection: &mut PgSession<'_>,
    list: &JobListResult,
    jobs: &[FoundJob],
) -> Result<FoundWatches, StoreError> {
    let active = subscriptions::active(connection, list.user_id.as_str()).await?;
    let mut new = Vec::new();
    for subscription in &active {
        let jobs = jobs_of_subscriptions(std::slice::from_ref(subscription), jobs);
        let histories = histories(connection, &jobs).await?;
        let id = subscription.id.to_bytes();
        let mut told = Vec::new();
        for found in jobs {
            let job = found.job.job_id.as_str();
            match histories.get(job) {
                Some(history) if history.needs_watch() => {
                    new.push((watch_of(&found, list.max_open, list.at), id));
                }
                Some(history) if !history.is_seen => {
                    told.push((id, job, list.at.as_millisecond()));
                }
                Some(_) | None => {}
            }
        }
        note_seen(connection, &told).await?;
    }
    Ok(new)
}

/// Notes which jobs subscriptions have taken: the subscription, the job and the time.
async fn note_seen(
    connection: &mut PgSession<'_>,
    seen: &[(IdBytes, &str, i64)],
) -> Result<(), StoreError> {
    if !seen.is_empty() {
        sqlx::query(SEE)
            .bind(columns(seen, |(subscription, ..)| *subscription))
            .bind(columns(seen, |(_, job, _)| *job))
            .bind(columns(seen, |(.., at)| *at))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Returns what is known of the jobs of one subscription, by their ids.
async fn histories(
    connection: &mut PgSession<'_>,
    jobs: &[JobOfSubscription<'_>],
) -> Result<HashMap<String, JobHistory>, StoreError> {
    let Some(first) = jobs.first() else {
        return Ok(HashMap::new());
    };
    let rows = sqlx::query(HISTORY)
        .bind(first.subscription.id.to_bytes())
        .bind(columns(jobs, |found| found.job.job_id.as_str()))
        .bind(first.subscription.client_id.0)
        .bind(first.subscription.request.callback_url.as_str())
        .fetch_all(connection)
        .await?;
    let histories = rows
        .iter()
        .map(|row| Ok((row.try_get("job_id")?, JobHistory::read(row)?)));
    histories.collect()
}

/// Notes the jobs of registered watches as seen. Jobs of clients that are at their cap are left to a later list.
async fn see(
    connection: &mut PgSession<'_>,
    new: &[NewWatch],
    of: &[IdBytes],
    answers: Vec<Registration>,
) -> Result<RecordedLists, StoreError> {
    let mut recorded = RecordedLists::default();
    let mut seen = Vec::new();
    for ((new, subscription), answer) in new.iter().zip(of).zip(answers) {
        let job = new.request.job_id.as_str();
        let taken = (*subscription, job, new.now.as_millisecond());
        match answer {
            Registration::AtCap => recorded.waiting_for_room += 1,
            Registration::Revoked => {}
            Registration::Created(_) => {
                recorded.watches += 1;
                seen.push(taken);
            }
            Registration::Existing(_) => seen.push(taken),
        }
    }
    note_seen(connection, &seen).await?;
    Ok(recorded)
}

/// Ends the claim of a list and sets the time of the next one.
async fn finish(connection: &mut PgSession<'_>, list: &JobListResult) -> Result<(), StoreError> {
    let user = list.user_id.as_str();
    let ended = |statement| {
        sqlx::query(statement)
            .bind(user)
            .bind(list.next_list_at.as_millisecond())
            .bind(list.at.as_millisecond())
    };
    let ended = match &list.result {
        ListResult::Listed(_) => ended(LISTED),
        ListResult::Failed => ended(NOT_LISTED).bind(None::<i64>),
        ListResult::Unknown { since, .. } => ended(NOT_LISTED).bind(since.as_millisecond()),
    };
    ended.execute(&mut *connection).await?;
    sqlx::query(REST_LISTS)
        .bind([user].as_slice())
        .execute(connection)
        .await?;
    Ok(())
}
