//! Lists the jobs of one person, and decides when to list them again.

use std::{sync::Arc, time::Duration};

use basiq_client::{
    BasiqClient, ListedJob, UserJobs,
    normalise::{self, Catalogue, Finding},
};
use jiff::Timestamp;
use metrics::counter;
use relay_domain::{
    BasiqId, ErrorChain, JobSnapshot, NoticeKind, UserNotice,
    clock::{Clock, between, later},
    spread,
};
use relay_store::{
    DueList, FoundJob, JobListResult, ListResult, NewNotice, StoreError, SubscriptionStore,
};
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

    /// Returns the result of a list of a person that Basiq does not know, and the wait before the next list. After the
    /// grace period, the result ends the subscriptions with a last notice.
    async fn handle_unknown_user(&self, due: &DueList, at: Timestamp) -> (ListResult, Duration) {
        let since = due.missing_since.unwrap_or(at);
        let wait = (self.grace / CHECKS_PER_GRACE_PERIOD).clamp(RECHECK_MIN, RECHECK_MAX);
        let missing_for = between(since, at);
        let mut last_notices = None;
        if missing_for >= self.grace {
            match self.last_notices(&due.user_id).await {
                Ok(notices) => {
                    info!(user.id = %due.user_id, "Basiq does not know the user: the subscriptions end");
                    last_notices = Some(notices);
                }
                // the next list tries again
                Err(error) => {
                    debug!(user.id = %due.user_id, error = %ErrorChain(&error), "subscriptions cannot be read");
                }
            }
        }
        (
            ListResult::Unknown {
                since,
                last_notices,
            },
            wait,
        )
    }

    async fn last_notices(&self, user_id: &BasiqId) -> Result<Vec<NewNotice>, StoreError> {
        let notice = UserNotice::new(NoticeKind::UserRemoved, user_id.clone(), None);
        let subscriptions = self.store.subscriptions_to(user_id).await?;
        Ok(NewNotice::for_each(&notice, subscriptions, |locale| {
            self.catalogue.notice_message(&notice, locale).to_owned()
        }))
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
