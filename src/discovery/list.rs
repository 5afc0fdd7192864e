//! Lists the jobs of one person, and decides when to list them again.

use std::{sync::Arc, time::Duration};

use basiq_client::{
    BasiqClient, ListedJob, UserJobs,
    normalise::{self, Catalogue, Finding},
};
use jiff::Timestamp;
use metrics::counter;
use relay_domain::{
    BasiqId, ErrorChain, JobSnapshot, NoticeKind, Subscription, UserNotice,
    clock::{Clock, later},
    spread,
};
use relay_store::{DueList, FoundJob, JobListResult, ListResult, NewNotice, SubscriptionStore};
use tracing::{debug, info, warn};

use crate::{config::Settings, discovery::pace::FurtherPages};

/// The longest wait after a list that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_mins(1);

/// How many times the relay lists an unknown person's jobs again within the grace period. [`RECHECK_MIN`] and
/// [`RECHECK_MAX`] limit the time between two of these lists.
const CHECKS_PER_GRACE_PERIOD: u32 = 4;
/// The shortest wait before an unknown person's jobs are listed again.
const RECHECK_MIN: Duration = Duration::from_secs(1);
/// The longest wait before an unknown person's jobs are listed again.
const RECHECK_MAX: Duration = Duration::from_mins(1);

/// Lists the jobs of people.
#[derive(Clone)]
pub struct JobLister {
    client: BasiqClient,
    store: Arc<dyn SubscriptionStore>,
    clock: Clock,
    catalogue: Arc<Catalogue>,
    interval: Duration,
    /// For how long Basiq may not know a person before the person's subscriptions end. The setting is that of jobs.
    grace: Duration,
    max_open: u64,
}

impl JobLister {
    /// Creates a lister.
    #[must_use]
    pub fn new(
        client: BasiqClient,
        store: Arc<dyn SubscriptionStore>,
        clock: Clock,
        catalogue: Arc<Catalogue>,
        settings: &Settings,
    ) -> Self {
        Self {
            client,
            store,
            clock,
            catalogue,
            interval: settings.subscriptions.discovery_interval,
            grace: settings.tracking.job_not_found_grace,
            max_open: settings.server.client_max_open_watches,
        }
    }

    /// Lists the jobs of one person, and counts each page after the first in `further`. It never fails: if Basiq gives
    /// no usable answer, the jobs are listed again soon.
    pub(super) async fn list(self, due: DueList, further: FurtherPages) -> JobListResult {
        let at = self.clock.now();
        let jobs = self.client.jobs_of_user(&due.user_id, || further.count());
        let (result, wait) = match jobs.await {
            Ok(UserJobs::Listed(list)) => {
                counter!("relay_lists_total", "result" => "listed").increment(1);
                if !list.is_complete {
                    warn!(user.id = %due.user_id, "a list of jobs was too long to read to its end");
                }
                (ListResult::Listed(to_found_jobs(list.jobs)), self.interval)
            }
            Ok(UserJobs::UnknownUser) => {
                counter!("relay_lists_total", "result" => "unknown-user").increment(1);
                self.handle_unknown_user(&due, at).await
            }
            Err(error) => {
                counter!("relay_lists_total", "result" => "failed").increment(1);
                let user = &due.user_id;
                if error.got_no_response() {
                    // the client logs this once for all calls
                    debug!(user.id = %user, %error, "a list of jobs brought no answer, will try again");
                } else {
                    warn!(user.id = %user, %error, "jobs cannot be listed, will try again");
                }
                (ListResult::Failed, self.interval.min(PAUSE_AFTER_FAILURE))
            }
        };
        JobListResult {
            user_id: due.user_id,
            lease: due.lease,
            at,
            next_list_at: later(at, spread(wait, rand::random())),
            result,
            max_open: self.max_open,
        }
    }

    /// Returns the result of a list of a person that Basiq does not know, and the wait before the next list. The result
    /// ends the subscriptions whose grace period is over, with a last notice. The next list ends the others.
    async fn handle_unknown_user(&self, due: &DueList, at: Timestamp) -> (ListResult, Duration) {
        // a time in the future means that the clock was set back
        let since = due.missing_since.filter(|since| *since <= at).unwrap_or(at);
        let wait = (self.grace / CHECKS_PER_GRACE_PERIOD).clamp(RECHECK_MIN, RECHECK_MAX);
        if later(since, self.grace) > at {
            return (unknown_since(since), wait);
        }
        match self.store.subscriptions_to(&due.user_id).await {
            // none can be read, so there is nobody whose grace period could end
            Ok(subscriptions) if subscriptions.is_empty() => (unknown_since(since), self.interval),
            Ok(mut subscriptions) => {
                // a subscription that has just begun gets its own grace period
                subscriptions.retain(|one| later(since.max(one.created_at), self.grace) <= at);
                (self.end(&due.user_id, since, subscriptions), wait)
            }
            // the next list tries again
            Err(error) => {
                debug!(user.id = %due.user_id, error = %ErrorChain(&error), "subscriptions cannot be read");
                (unknown_since(since), wait)
            }
        }
    }

    /// Returns the result that ends these subscriptions to an unknown person, with a last notice for each that wants it.
    fn end(
        &self,
        user_id: &BasiqId,
        since: Timestamp,
        subscriptions: Vec<Subscription>,
    ) -> ListResult {
        if !subscriptions.is_empty() {
            info!(user.id = %user_id, "Basiq does not know the user: the subscriptions end");
        }
        let notice = UserNotice::new(NoticeKind::UserRemoved, user_id.clone(), None);
        ListResult::Unknown {
            since,
            ended: subscriptions.iter().map(|one| one.id).collect(),
            last_notices: NewNotice::for_each(&notice, subscriptions, |locale| {
                self.catalogue.notice_message(&notice, locale).to_owned()
            }),
        }
    }
}

/// Returns the result of a list of an unknown person that ends nothing.
fn unknown_since(since: Timestamp) -> ListResult {
    ListResult::Unknown {
        since,
        ended: Vec::new(),
        last_notices: Vec::new(),
    }
}

fn has_ended(snapshot: &JobSnapshot) -> bool {
    match normalise::find(snapshot, None) {
        Finding::Succeeded | Finding::Failed(_) => true,
        Finding::Running | Finding::Challenge(_) => false,
    }
}

/// Reduces listed jobs to what subscriptions need of them.
fn to_found_jobs(listed: Vec<ListedJob>) -> Vec<FoundJob> {
    let found = listed.into_iter().map(|job| FoundJob {
        job_id: job.id,
        connection_id: job.snapshot.context.connection_id.clone(),
        ended_at: job.snapshot.updated.filter(|_| has_ended(&job.snapshot)),
    });
    found.collect()
}
