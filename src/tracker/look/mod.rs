//! One look at a job: calls Basiq, interprets the response and returns what changes.

mod absent;
mod averages_asked_for;
mod document;
mod durations;
mod outage;
mod report;

use std::{sync::Arc, time::Duration};

use basiq_client::{
    BasiqClient, BasiqConfig, CallCapacity,
    normalise::{Catalogue, JudgeSettings},
};
use jiff::Timestamp;
use relay_domain::{
    ActivityRecorder, JobMemory, LookTally, Outcome, Watch,
    clock::{Clock, between, later},
    spread,
};
use relay_store::{ConnectionFailureChange, DueJob, DurationSample, Look, TrackerStore, Urgency};
use url::Url;

use crate::{
    config::TrackingConfig,
    tracker::{
        bank::BankState,
        look::{averages_asked_for::AveragesAskedFor, outage::is_back_for_all, report::log_change},
        transition::{ReportContext, advance},
    },
};

/// The age below which a job has priority over older ones when not all can be looked at. Most jobs end within
/// this time, and a late look at an old job delays it only by a small part of its age.
const YOUNG: Duration = Duration::from_mins(1);

/// Looks at jobs. Cheap to clone.
#[derive(Clone)]
pub struct Looker {
    parts: Arc<LookContext>,
}

struct LookContext {
    client: BasiqClient,
    store: Arc<dyn TrackerStore>,
    clock: Clock,
    catalogue: Arc<Catalogue>,
    basiq_url: Url,
    config: TrackingConfig,
    judge_settings: JudgeSettings,
    averages_asked_for: AveragesAskedFor,
    tally: LookTally,
    activity: ActivityRecorder,
}

/// A look in progress, with the state that is known so far.
struct LookInProgress {
    due: DueJob,
    began: Timestamp,
    now: Timestamp,
    memory: Box<JobMemory>,
}

/// The result of a look for all watches of a job.
struct LookResult {
    outcomes: Vec<Outcome>,
    resources: Vec<String>,
    next_look_at: Timestamp,
    is_urgent: bool,
    bank: BankState,
    sample: Option<DurationSample>,
    connection: Option<ConnectionFailureChange>,
}

impl LookResult {
    /// Creates a result with outcomes only.
    fn of_outcomes(outcomes: Vec<Outcome>, next_look_at: Timestamp) -> Self {
        Self {
            outcomes,
            resources: Vec::new(),
            next_look_at,
            is_urgent: false,
            bank: BankState::Unknown,
            sample: None,
            connection: None,
        }
    }
}

impl Looker {
    /// Creates a looker that calls Basiq through `client` and reads the history of connections from `store`.
    #[must_use]
    pub fn new(
        client: BasiqClient,
        store: Arc<dyn TrackerStore>,
        clock: Clock,
        catalogue: Arc<Catalogue>,
        basiq: &BasiqConfig,
        config: &TrackingConfig,
    ) -> Self {
        let judge_settings = JudgeSettings {
            bank_retry_after: config.bank_retry_after,
            update_retry_interval: config.update_retry_interval,
            job_max_age: config.job_max_age,
            support_after_failures: config.support_after_failures,
        };
        let (basiq_url, config) = (basiq.url.clone(), config.clone());
        Self {
            parts: Arc::new(LookContext {
                client,
                store,
                activity: ActivityRecorder::new(clock.clone()),
                clock,
                catalogue,
                basiq_url,
                config,
                judge_settings,
                averages_asked_for: AveragesAskedFor::default(),
                tally: LookTally::default(),
            }),
        }
    }

    /// Returns the live counts of looks and ended jobs.
    #[must_use]
    pub fn tally(&self) -> LookTally {
        self.parts.tally.clone()
    }

    /// Returns the recorder of what this relay does. The delivery worker counts in it too.
    #[must_use]
    pub fn activity(&self) -> ActivityRecorder {
        self.parts.activity.clone()
    }

    /// Returns how many more looks are worth starting while `looks` are in progress.
    #[must_use]
    pub fn capacity(&self, looks: usize) -> CallCapacity {
        self.parts.client.capacity(looks)
    }

    /// Looks at a claimed job, and returns the look and the label of its result for the metrics. It never
    /// fails: an error is part of the result.
    pub async fn look(&self, due: DueJob) -> (Look, &'static str) {
        let parts = &*self.parts;
        if is_back_for_all(&due) {
            return (parts.end_outage(due), "bank");
        }
        parts.activity.count_look();
        // The look became due by the store's clock, which may be a little ahead of this one.
        let began = parts.clock.now().max(due.due_at);
        match parts.client.job(&due.job_id).await {
            Ok(document) => (parts.read(due, began, &document).await, "ok"),
            Err(error) => parts.without_document(due, began, &error).await,
        }
    }
}

impl LookContext {
    fn conclude(&self, look: LookInProgress, reading: LookResult) -> Look {
        let context = ReportContext {
            memory: &look.memory,
            resources: &reading.resources,
            catalogue: &self.catalogue,
            basiq_url: &self.basiq_url,
            now: look.now,
        };
        let changes = look.due.watches.iter().zip(&reading.outcomes);
        let changes = changes
            .filter_map(|(watch, outcome)| advance(watch, outcome, &context))
            .collect::<Vec<_>>();
        for change in &changes {
            log_change(&look, change);
        }
        let outage = self.outage_change(&look, &reading.bank);
        let urgency = urgency(reading.is_urgent, &look.memory, look.now);
        Look {
            job_id: look.due.job_id,
            lease: look.due.lease,
            began: look.began,
            at: look.now,
            changes,
            memory: look.memory,
            next_look_at: reading.next_look_at,
            urgency,
            outage,
            sample: reading.sample,
            connection: reading.connection,
        }
    }
}

/// Returns the priority of the next look when not all jobs can be looked at. Young jobs come before old ones.
fn urgency(is_urgent: bool, memory: &JobMemory, now: Timestamp) -> Urgency {
    let begun = memory.created.or(memory.first_look_at).unwrap_or(now);
    if is_urgent {
        Urgency::High
    } else if between(begun, now) < YOUNG {
        Urgency::Young
    } else {
        Urgency::Normal
    }
}

fn after_spread(now: Timestamp, wait: Duration) -> Timestamp {
    later(now, spread(wait, rand::random()))
}

/// Returns when the job began: its creation time, or else the creation time of the watch.
fn started_at(memory: &JobMemory, watch: &Watch) -> Timestamp {
    memory.created.unwrap_or(watch.created_at)
}
