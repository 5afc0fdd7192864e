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
    DueList, FoundJob, ListResult, NewNotice, StoreError, SubscriptionStore, UserList,
};
use tracing::{debug, info, warn};

use crate::config::Settings;

/// The longest wait after a list that brought no response.
const PAUSE_AFTER_FAULT: Duration = Duration::from_mins(1);

/// How many times the relay asks again within the grace for a person that Basiq does not know.
const ASKS_PER_GRACE: u32 = 4;
/// The shortest wait before the relay asks again for such a person.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Lists the jobs of people.
#[derive(Clone)]
pub struct JobLister {
    client: BasiqClient,
    store: Arc<dyn SubscriptionStore>,
    clock: Clock,
    catalogue: Arc<Catalogue>,
    interval: Duration,
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

    /// Lists the jobs of one person. It never fails: without a response the jobs are listed again soon.
    pub(super) async fn list(self, due: DueList) -> UserList {
        let at = self.clock.now();
        let (result, wait) = match self.client.jobs_of_user(&due.user_id).await {
            Ok(UserJobs::Listed(list)) => {
                counter!("relay_lists_total", "result" => "listed").increment(1);
                if !list.is_complete {
                    warn!(user.id = %due.user_id, "a list of jobs was too long to read to its end");
                }
                (ListResult::Listed(found(list.jobs)), self.interval)
            }
            Ok(UserJobs::UnknownUser) => {
                counter!("relay_lists_total", "result" => "unknown-user").increment(1);
                self.unknown(&due, at).await
            }
            Err(error) => {
                counter!("relay_lists_total", "result" => "failed").increment(1);
                let user = &due.user_id;
                if error.is_silence() {
                    // the client logs this once for all calls
                    debug!(user.id = %user, %error, "a list of jobs brought no answer, will try again");
                } else {
                    warn!(user.id = %user, %error, "jobs cannot be listed, will try again");
                }
                (ListResult::Failed, self.interval.min(PAUSE_AFTER_FAULT))
            }
        };
        UserList {
            user_id: due.user_id,
            lease: due.lease,
            at,
            next_list_at: later(at, spread(wait, rand::random())),
            result,
            max_open: self.max_open,
        }
    }

    /// Decides about a person that Basiq does not know. After the grace, the subscriptions end with a last notice.
    async fn unknown(&self, due: &DueList, at: Timestamp) -> (ListResult, Duration) {
        let since = due.missing_since.unwrap_or(at);
        let wait = (self.grace / ASKS_PER_GRACE).clamp(SHORTEST_WAIT, LONGEST_WAIT);
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

/// Returns what subscriptions need of listed jobs.
fn found(jobs: Vec<ListedJob>) -> Vec<FoundJob> {
    let found = jobs.into_iter().map(|job| FoundJob {
        job_id: job.id,
        connection_id: job.snapshot.context.connection_id.clone(),
        ended_at: job.snapshot.updated.filter(|_| has_ended(&job.snapshot)),
    });
    found.collect()
}
