//! A look that brought a job document.

use basiq_client::{
    normalise::{self, Finding, JobFacts},
    wire::JobDocument,
};
use jiff::Timestamp;
use relay_domain::{
    ErrorChain, JobSnapshot, KnownDurations, Operation, Outcome, Phase, Watch, clock::later,
};
use relay_store::{ConnectionFailureChange, DueJob, Look};
use tracing::warn;

use crate::tracker::{
    bank::{BankState, bank_state},
    look::{
        LookContext, LookInProgress, LookResult,
        durations::sample,
        report::{measure_detection, measure_look, note_unknown_code},
        started_at,
    },
    memory,
    retry_queue::{self, RetryObservation},
    schedule,
};

/// When to look at a job next.
struct NextLook {
    at: Timestamp,
    /// When that would be if no hint were expected.
    without_hints: Timestamp,
}

impl NextLook {
    /// Returns the time without hints if it is before the next look.
    fn earlier_without_hints(&self) -> Option<Timestamp> {
        (self.without_hints < self.at).then_some(self.without_hints)
    }
}

/// The facts that a job document lacks.
struct FetchedFacts {
    /// The number of jobs in a row, this one included, to which the bank was unavailable.
    failures_in_a_row: u32,
    /// What the look says about the connection.
    connection: Option<ConnectionFailureChange>,
    bank: BankState,
}

impl LookContext {
    /// Interprets a job document.
    pub(super) async fn read(&self, due: DueJob, began: Timestamp, document: &JobDocument) -> Look {
        let now = self.clock.now();
        let snapshot = normalise::read_job(document, now);
        let finding = normalise::find(&snapshot, None);
        let memory = Box::new(memory::observe(&due.memory, &snapshot, &finding, now));
        let mut look = LookInProgress {
            due,
            began,
            now,
            memory,
        };
        let fetched = self.fetch_facts(&look, &finding).await;
        look.memory.phase = self.next_phase(&look, &finding, &fetched.bank, &snapshot);
        let watches = look.due.watches.iter();
        let outcomes = watches.map(|watch| match watch.request.options.until.as_deref() {
            Some(until) => {
                let finding = normalise::find(&snapshot, Some(until));
                self.outcome(&look, watch, &finding, &fetched)
            }
            None => self.outcome(&look, watch, &finding, &fetched),
        });
        let outcomes = outcomes.collect::<Vec<_>>();
        note_unknown_code(&look, &outcomes);
        let asks = normalise::expects_challenge(&snapshot);
        let context = &look.memory.context;
        let mut found = self.durations_after(&outcomes, context).await;
        let mut averages = None;
        if is_quiet(&look, &outcomes, asks) {
            averages = self.ask_averages(&found, context, now).await;
        }
        found.known.averages = averages.or(found.known.averages);
        let next = self.next_look(&look, &found.known, asks, snapshot.updated);
        look.memory.look_without_hints_at = next.earlier_without_hints();
        measure_look(self, &look, &finding, &found);
        let sample = sample(&look, &snapshot, &finding, &found, averages);
        let reading = LookResult {
            outcomes,
            resources: normalise::resources(&snapshot),
            next_look_at: next.at,
            is_urgent: asks || look.memory.challenges.open.is_some(),
            bank: fetched.bank,
            sample,
            connection: fetched.connection,
        };
        let look = self.conclude(look, reading);
        measure_detection(&look, snapshot.updated);
        look
    }

    /// Returns what a finding means for one watch.
    fn outcome(
        &self,
        look: &LookInProgress,
        watch: &Watch,
        finding: &Finding,
        fetched: &FetchedFacts,
    ) -> Outcome {
        if watch.progress.told_outage && finding.is_unavailable() {
            let code = finding.error_code().map(str::to_owned);
            return self.judge_outage(look, watch, &fetched.bank, code);
        }
        // The bank serves again, and the document shows an update between two of Basiq's retries.
        let is_queued = matches!(look.memory.phase, Phase::RetryQueue { .. });
        if watch.progress.told_outage && look.due.bank_is_back && is_queued {
            return self.judge_outage(look, watch, &BankState::Serving, None);
        }
        let facts = JobFacts {
            major_outage: matches!(fetched.bank, BankState::Out { .. }),
            failures_in_a_row: fetched.failures_in_a_row,
            started_at: started_at(&look.memory, watch),
            next_retry_at: self.next_retry_at(look),
        };
        let options = &watch.request.options;
        normalise::judge(finding, options, &facts, &self.judge_settings, look.now)
    }

    /// Returns when to look next. No time is later than the moment when the job reaches its maximum age.
    fn next_look(
        &self,
        look: &LookInProgress,
        durations: &KnownDurations,
        asks: bool,
        updated: Option<Timestamp>,
    ) -> NextLook {
        let (now, config) = (look.now, &self.config);
        // The durations are those of whole jobs and say nothing about when a single step is done.
        let unknown = KnownDurations::default();
        let watches = &look.due.watches;
        let awaits_step = watches
            .iter()
            .any(|watch| watch.request.options.until.is_some());
        let durations = if awaits_step { &unknown } else { durations };
        let jitter = rand::random();
        let next =
            |durations| schedule::next_look(&look.memory, durations, asks, now, config, jitter);
        let ends = look
            .due
            .watches
            .iter()
            .map(|watch| later(started_at(&look.memory, watch), self.config.job_max_age));
        let ends = ends.filter(|end| *end > look.now);
        let latest = ends
            .chain(self.retry_in_outage(look, updated, jitter))
            .min();
        let earlier = |at: Timestamp| latest.map_or(at, |latest| at.min(latest));
        NextLook {
            at: earlier(next(durations)),
            without_hints: earlier(next(&durations.without_hints())),
        }
    }

    /// Returns when to look at a job that waits for its bank, and that Basiq retries meanwhile because it is an update for
    /// one of its watches.
    fn retry_in_outage(
        &self,
        look: &LookInProgress,
        updated: Option<Timestamp>,
        jitter: f64,
    ) -> Option<Timestamp> {
        let waits = matches!(look.memory.phase, Phase::Outage { .. });
        if !waits || !look.due.watches.iter().any(is_update) {
            return None;
        }
        let (now, interval) = (look.now, self.config.update_retry_interval);
        let retry = retry_queue::next_retry(updated, now, interval);
        Some(retry_queue::next_look(retry, 0, now, interval, jitter))
    }

    /// Returns the facts that the document lacks: the bank's outage and the connection's history. They are
    /// fetched only for an unavailable bank outside Basiq's queue of updates, because only then do they matter.
    async fn fetch_facts(&self, look: &LookInProgress, finding: &Finding) -> FetchedFacts {
        let connection_id = look.memory.context.connection_id.clone();
        let report = |unavailable| {
            connection_id
                .clone()
                .map(|connection_id| ConnectionFailureChange {
                    connection_id,
                    unavailable,
                })
        };
        let not_needed = |connection| FetchedFacts {
            failures_in_a_row: 0,
            connection,
            bank: BankState::Unknown,
        };
        if *finding == Finding::Succeeded {
            return not_needed(report(false));
        }
        if !finding.is_unavailable() || look.due.watches.iter().all(is_update) {
            return not_needed(None);
        }
        let mut failures_in_a_row = 0;
        if let Some(connection_id) = &connection_id {
            let (job, now) = (&look.due.job_id, look.now);
            match self
                .store
                .connection_failures(connection_id, job, now)
                .await
            {
                Ok(before) => failures_in_a_row = before.saturating_add(1),
                Err(error) => {
                    warn!(error = %ErrorChain(&error), "a connection's history cannot be read");
                }
            }
        }
        let bank = if look.due.bank_is_back {
            BankState::Serving
        } else {
            bank_state(&self.client, &*self.store, &look.memory.context).await
        };
        FetchedFacts {
            failures_in_a_row,
            connection: report(true),
            bank,
        }
    }

    /// Returns when Basiq next retries a queued update.
    fn next_retry_at(&self, look: &LookInProgress) -> Option<Timestamp> {
        match look.memory.phase {
            Phase::RetryQueue { next_retry_at, .. } => {
                let interval = self.config.update_retry_interval;
                Some(retry_queue::upcoming(next_retry_at, look.now, interval))
            }
            Phase::Running | Phase::Outage { .. } => None,
        }
    }

    /// Returns what the job waits for after this look.
    fn next_phase(
        &self,
        look: &LookInProgress,
        finding: &Finding,
        bank: &BankState,
        snapshot: &JobSnapshot,
    ) -> Phase {
        let (before, watches) = (&look.due.memory.phase, &look.due.watches);
        let has_update = watches.iter().any(is_update);
        let (waited_for_bank, was_queued) = match before {
            Phase::Running => (false, false),
            Phase::RetryQueue { .. } => (false, true),
            // Basiq retries an update meanwhile
            Phase::Outage { .. } => (true, has_update),
        };
        let is_pending =
            was_queued && *finding == Finding::Running && !retry_queue::moves(snapshot);
        let waits_on = waited_for_bank && (finding.is_unavailable() || is_pending);
        let somebody_waits = !look.due.bank_is_back && !watches.iter().all(is_update);
        if *bank == BankState::Unknown && waits_on && somebody_waits {
            return before.clone();
        }
        if let (BankState::Out { bank, .. }, Finding::Failed(failure)) = (bank, finding) {
            return Phase::Outage {
                bank: bank.clone(),
                error_code: failure.code.clone().unwrap_or_default(),
            };
        }
        if is_pending || (finding.is_unavailable() && has_update) {
            let seen = RetryObservation {
                now: look.now,
                is_pending,
                updated: snapshot.updated,
            };
            return seen.phase_after(before, self.config.update_retry_interval);
        }
        Phase::Running
    }
}

/// Returns whether nobody waits for this look: nothing changed, and no challenge is expected.
fn is_quiet(look: &LookInProgress, outcomes: &[Outcome], asks: bool) -> bool {
    let has_news = outcomes.iter().any(|outcome| *outcome != Outcome::Running);
    look.memory.phase == Phase::Running && !asks && !has_news
}

fn is_update(watch: &Watch) -> bool {
    watch.request.options.operation == Some(Operation::Update)
}
