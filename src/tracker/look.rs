//! One look at a job: ask Basiq, understand, and say what changes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tracing::{info, warn};
use url::Url;

use crate::{
    basiq::{BasiqClient, BasiqError, wire::JobDocument},
    clock::Clock,
    config::{BasiqConfig, TrackingConfig},
    domain::{JobMemory, Operation, Outcome, Phase, Watch, WatchState},
    normalise::{self, Catalogue, Finding, Known, Timings},
    store::{ConnectionReport, DueJob, JobStore, Look, Urgency, WatchChange},
    tracker::{
        bank::{Bank, bank_in_outage, is_out},
        memory,
        schedule::{self, back_off, next_look_at_absent},
        transition::{Telling, advance},
    },
};

/// After a refused key, looks wait as long as the client does before it tries the key again.
const KEY_REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Looks at jobs. Cheap to clone.
#[derive(Clone)]
pub struct Looker {
    parts: Arc<Parts>,
}

struct Parts {
    client: BasiqClient,
    store: Arc<dyn JobStore>,
    clock: Clock,
    catalogue: Arc<Catalogue>,
    basiq_url: Url,
    config: TrackingConfig,
    timings: Timings,
}

/// A look on its way: what is known so far.
struct Progressing {
    due: DueJob,
    now: Timestamp,
    memory: JobMemory,
}

/// What a look says about all watches of a job.
struct Reading {
    outcomes: Vec<Outcome>,
    resources: Vec<String>,
    next_look_at: Timestamp,
    is_urgent: bool,
    connection: Option<ConnectionReport>,
}

impl Looker {
    /// A looker that asks with `client` and reads connections' histories from `store`.
    #[must_use]
    pub fn new(
        client: BasiqClient,
        store: Arc<dyn JobStore>,
        clock: Clock,
        catalogue: Arc<Catalogue>,
        (basiq, config): (&BasiqConfig, &TrackingConfig),
    ) -> Self {
        let timings = Timings {
            bank_retry_after: config.bank_retry_after,
            update_retry_interval: config.update_retry_interval,
            job_max_age: config.job_max_age,
            support_after_failures: config.support_after_failures,
        };
        let (basiq_url, config) = (basiq.url.clone(), config.clone());
        Self {
            parts: Arc::new(Parts {
                client,
                store,
                clock,
                catalogue,
                basiq_url,
                config,
                timings,
            }),
        }
    }

    /// Looks at a claimed job. It never fails: what went wrong is part of what it says.
    pub async fn look(&self, due: DueJob) -> (Look, &'static str) {
        let parts = &*self.parts;
        if let Some(bank) = outage_to_wait_out(&due) {
            return parts.look_at_bank(due, bank).await;
        }
        match parts.client.job(&due.job_id).await {
            Ok(document) => (parts.read(due, &document).await, "ok"),
            Err(error) => parts.without_document(due, &error),
        }
    }
}

/// The bank to look at instead of the job: it is out, and every watch was told so.
fn outage_to_wait_out(due: &DueJob) -> Option<Bank> {
    let Phase::Outage {
        institution_id,
        method,
        ..
    } = &due.memory.phase
    else {
        return None;
    };
    due.watches
        .iter()
        .all(|watch| watch.progress.told_outage)
        .then(|| Bank {
            institution_id: institution_id.clone(),
            method: method.clone(),
        })
}

impl Parts {
    /// Understands a job document.
    async fn read(&self, due: DueJob, document: &JobDocument) -> Look {
        let now = self.clock.now();
        let snapshot = normalise::read_job(document);
        let finding = normalise::find(&snapshot, None);
        let memory = memory::observe(&due.memory, &snapshot, &finding, now);
        let mut look = Progressing { due, now, memory };
        let (known, connection, bank) = self.ask_around(&look, &finding).await;
        let outcomes = look.due.watches.iter().map(|watch| {
            let finding = match watch.request.options.until.as_deref() {
                Some(until) => normalise::find(&snapshot, Some(until)),
                None => finding.clone(),
            };
            let known = Known {
                started_at: started_at(&look.memory, watch),
                ..known
            };
            normalise::judge(&finding, &watch.request.options, &known, &self.timings, now)
        });
        let outcomes = outcomes.collect::<Vec<_>>();
        note_unknown_code(&look, &outcomes);
        look.memory.phase = self.next_phase(&look, &finding, bank);
        let asks = normalise::expects_challenge(&snapshot);
        let next = self.next_look(&look, asks);
        let reading = Reading {
            outcomes,
            resources: normalise::resources(&snapshot),
            next_look_at: next,
            is_urgent: asks || look.memory.challenges.open.is_some(),
            connection,
        };
        let look = self.conclude(look, reading);
        measure_detection(&look, snapshot.updated);
        look
    }

    /// When to look next, and in any case when the job gets too old.
    fn next_look(&self, look: &Progressing, asks: bool) -> Timestamp {
        let next = schedule::next_look(&look.memory, asks, look.now, &self.config, rand::random());
        let ends =
            look.due.watches.iter().map(|watch| {
                schedule::after(started_at(&look.memory, watch), self.config.job_max_age)
            });
        ends.filter(|end| *end > look.now)
            .fold(next, Timestamp::min)
    }

    /// What is known beyond the document: the bank's outage and the connection's history. Asked only
    /// where it matters, which is an unavailable bank outside Basiq's own queue of updates.
    async fn ask_around(
        &self,
        look: &Progressing,
        finding: &Finding,
    ) -> (Known, Option<ConnectionReport>, Option<Bank>) {
        let mut known = Known {
            major_outage: false,
            failures_in_a_row: 0,
            started_at: look.now,
        };
        let connection_id = look.memory.context.connection_id.clone();
        let report = |unavailable| {
            connection_id.clone().map(|connection_id| ConnectionReport {
                connection_id,
                unavailable,
            })
        };
        if *finding == Finding::Succeeded {
            return (known, report(false), None);
        }
        if !finding.is_unavailable() || look.due.watches.iter().all(is_update) {
            return (known, None, None);
        }
        if let Some(connection_id) = &connection_id {
            let (job, now) = (&look.due.job_id, look.now);
            match self
                .store
                .connection_failures(connection_id, job, now)
                .await
            {
                Ok(before) => known.failures_in_a_row = before.saturating_add(1),
                Err(error) => warn!(%error, "a connection's history cannot be read"),
            }
        }
        let bank = bank_in_outage(&self.client, &look.memory.context).await;
        known.major_outage = bank.is_some();
        (known, report(true), bank)
    }

    /// What the job waits for after this look.
    fn next_phase(&self, look: &Progressing, finding: &Finding, bank: Option<Bank>) -> Phase {
        let interval = self.config.update_retry_interval;
        if let (Some(bank), Finding::Failed(failure)) = (bank, finding) {
            return Phase::Outage {
                institution_id: bank.institution_id,
                method: bank.method,
                error_code: failure.code.clone().unwrap_or_default(),
            };
        }
        let queued = matches!(look.due.memory.phase, Phase::RetryQueue { .. });
        let fails = finding.is_unavailable() && look.due.watches.iter().any(is_update);
        let waits = queued && *finding == Finding::Running;
        if fails || waits {
            let before = &look.due.memory.phase;
            return schedule::retry_queue(before, waits, look.now, interval);
        }
        Phase::Running
    }

    /// Looks at the connector of a bank that is down for everybody.
    async fn look_at_bank(&self, due: DueJob, bank: Bank) -> (Look, &'static str) {
        let answer = is_out(&self.client, &bank).await;
        let now = self.clock.now();
        let mut memory = due.memory.clone();
        let next = after_spread(now, self.config.outage_poll_interval);
        let code = outage_code(&memory.phase);
        let verdict = match answer {
            Ok(false) => {
                memory.phase = Phase::Running;
                Some(normalise::bank_is_back(code, failed_step(&memory)))
            }
            Ok(true) => None,
            Err(error) => {
                warn!(job.id = %due.job_id, %error, "the bank's status cannot be asked");
                None
            }
        };
        let outlived =
            normalise::outage_outlived(outage_code(&due.memory.phase), failed_step(&memory));
        let outcomes = due.watches.iter().map(|watch| match &verdict {
            Some(verdict) => Outcome::Tell(Box::new(verdict.clone())),
            None if self.is_too_old(&memory, watch, now) => {
                Outcome::Tell(Box::new(outlived.clone()))
            }
            None => Outcome::Running,
        });
        let reading = Reading {
            outcomes: outcomes.collect(),
            resources: Vec::new(),
            next_look_at: next,
            is_urgent: false,
            connection: None,
        };
        (
            self.conclude(Progressing { due, now, memory }, reading),
            "bank",
        )
    }

    fn is_too_old(&self, memory: &JobMemory, watch: &Watch, now: Timestamp) -> bool {
        schedule::after(started_at(memory, watch), self.config.job_max_age) <= now
    }

    /// A look that brought no document: it is tried again, and ends no watch unless Basiq says for
    /// long enough that the job does not exist or is not ours.
    fn without_document(&self, due: DueJob, error: &BasiqError) -> (Look, &'static str) {
        let now = self.clock.now();
        let memory = due.memory.clone();
        let look = Progressing { due, now, memory };
        match error {
            BasiqError::NotFound { .. } => (self.absent(look, Absence::Missing), "not-found"),
            BasiqError::Forbidden { .. } => (self.absent(look, Absence::Forbidden), "forbidden"),
            BasiqError::KeyRefused => {
                let next = after_spread(now, KEY_REFUSED_PAUSE);
                (self.conclude_running(look, next), "key-refused")
            }
            BasiqError::Throttled { retry_after, .. } => {
                (self.failed(look, *retry_after), "throttled")
            }
            BasiqError::Status { .. }
            | BasiqError::TimedOut
            | BasiqError::Unreachable(_)
            | BasiqError::Unreadable(_) => {
                warn!(job.id = %look.due.job_id, %error, "a look failed, will try again");
                (self.failed(look, None), "error")
            }
        }
    }

    fn failed(&self, mut look: Progressing, asked: Option<Duration>) -> Look {
        look.memory.errors_in_a_row = look.memory.errors_in_a_row.saturating_add(1);
        let errors = look.memory.errors_in_a_row;
        let next = back_off(errors, asked, look.now, rand::random());
        self.conclude_running(look, next)
    }

    fn absent(&self, mut look: Progressing, absence: Absence) -> Look {
        let now = look.now;
        let (since, verdict) = match absence {
            Absence::Missing => {
                look.memory.forbidden_since = None;
                (
                    *look.memory.missing_since.get_or_insert(now),
                    normalise::job_not_found(),
                )
            }
            Absence::Forbidden => {
                look.memory.missing_since = None;
                (
                    *look.memory.forbidden_since.get_or_insert(now),
                    normalise::job_not_accessible(),
                )
            }
        };
        look.memory.errors_in_a_row = 0;
        let grace = self.config.job_not_found_grace;
        let outcomes = look.due.watches.iter().map(|watch| {
            // A watch that has just joined gets its own grace.
            let since = since.max(watch.created_at);
            if schedule::after(since, grace) <= now {
                Outcome::Tell(Box::new(verdict.clone()))
            } else {
                Outcome::Running
            }
        });
        let reading = Reading {
            outcomes: outcomes.collect(),
            resources: Vec::new(),
            next_look_at: next_look_at_absent(since, now, grace),
            is_urgent: false,
            connection: None,
        };
        self.conclude(look, reading)
    }

    fn conclude_running(&self, look: Progressing, next_look_at: Timestamp) -> Look {
        let outcomes = look.due.watches.iter().map(|_| Outcome::Running).collect();
        let nothing = Reading {
            outcomes,
            resources: Vec::new(),
            next_look_at,
            is_urgent: false,
            connection: None,
        };
        // A failed look says nothing of the job: no watch changes its state by it.
        Look {
            changes: Vec::new(),
            ..self.conclude(look, nothing)
        }
    }

    fn conclude(&self, look: Progressing, reading: Reading) -> Look {
        let telling = Telling {
            memory: &look.memory,
            resources: &reading.resources,
            catalogue: &self.catalogue,
            basiq_url: &self.basiq_url,
            now: look.now,
        };
        let changes = look.due.watches.iter().zip(&reading.outcomes);
        let changes = changes
            .filter_map(|(watch, outcome)| advance(watch, outcome, &telling))
            .collect::<Vec<_>>();
        for change in &changes {
            log_change(&look, change);
        }
        Look {
            job_id: look.due.job_id,
            lease: look.due.lease,
            at: look.now,
            changes,
            memory: look.memory,
            next_look_at: reading.next_look_at,
            urgency: if reading.is_urgent {
                Urgency::High
            } else {
                Urgency::Normal
            },
            connection: reading.connection,
        }
    }
}

#[derive(Clone, Copy)]
enum Absence {
    Missing,
    Forbidden,
}

fn is_update(watch: &Watch) -> bool {
    watch.request.options.operation == Some(Operation::Update)
}

fn after_spread(now: Timestamp, wait: Duration) -> Timestamp {
    schedule::after(now, schedule::spread(wait, rand::random()))
}

/// When the job began: as it tells, or when it was first asked about.
fn started_at(memory: &JobMemory, watch: &Watch) -> Timestamp {
    memory.created.unwrap_or(watch.created_at)
}

fn outage_code(phase: &Phase) -> Option<String> {
    match phase {
        Phase::Outage { error_code, .. } => Some(error_code.clone()),
        Phase::Running | Phase::RetryQueue { .. } => None,
    }
}

fn failed_step(memory: &JobMemory) -> Option<String> {
    memory
        .steps
        .iter()
        .find(|step| step.status == "failed")
        .map(|step| step.title.clone())
}

/// Logs and counts a code nobody knows, so that the catalogue can grow.
fn note_unknown_code(look: &Progressing, outcomes: &[Outcome]) {
    let told = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Tell(verdict) => verdict.error_code.as_deref().map(|code| (verdict, code)),
        Outcome::Running => None,
    });
    let Some((verdict, code)) = told else { return };
    if !normalise::is_known_code(code) {
        metrics::counter!("relay_unknown_error_codes_total").increment(1);
        let step = verdict.failed_step.as_deref();
        warn!(job.id = %look.due.job_id, error.code = code, step.title = step, "a code nobody knows");
    }
}

/// How long a settled job had been settled at Basiq, by its own word, before it was seen here.
fn measure_detection(look: &Look, settled_at: Option<Timestamp>) {
    let settles = look
        .changes
        .iter()
        .any(|change| change.state == WatchState::Settled);
    if let (true, Some(settled_at)) = (settles, settled_at) {
        let waited = schedule::between(settled_at, look.at);
        metrics::histogram!("relay_detection_seconds").record(waited.as_secs_f64());
    }
}

fn log_change(look: &Progressing, change: &WatchChange) {
    let context = &look.memory.context;
    let (user_id, connection_id) = (context.user_id.as_deref(), context.connection_id.as_deref());
    let event = change.event.as_ref();
    info!(
        watch.id = %change.watch_id,
        job.id = %look.due.job_id,
        user.id = user_id,
        connection.id = connection_id,
        watch.state = %change.state,
        event.id = event.map(|event| event.id.to_string()),
        event.status = event.map(|event| event.body.status.as_str()),
        event.action = event.map(|event| event.body.action.as_str()),
        error.code = event.and_then(|event| event.body.error_code.as_deref()),
        "the job moved on"
    );
}
