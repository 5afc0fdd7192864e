//! Converts looks to rows to write.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use relay_domain::{Event, EventId, JobId, LeaseId, WatchId};

use crate::{
    Look, OutageChange, StoreError,
    error::unwritable,
    rows::{AnyRow, ColumnReader, IdBytes},
    rules::rank,
};

/// The claim under which a look was made.
pub(crate) struct LookClaimRow<'l> {
    pub(crate) job_id: &'l str,
    pub(crate) lease_id: IdBytes,
}

/// Returns the claims of looks.
pub(crate) fn claim_rows(looks: &[Look]) -> Vec<LookClaimRow<'_>> {
    let claims = looks.iter().map(|look| LookClaimRow {
        job_id: look.job_id.as_str(),
        lease_id: look.lease.to_bytes(),
    });
    claims.collect()
}

/// Returns the looks whose lease still holds, by the jobs that were found and their leases. The first look under a
/// lease uses it up.
pub(crate) fn held<'l, 'j>(
    looks: &'l [Look],
    leases: impl Iterator<Item = (&'j str, LeaseId)>,
) -> Vec<&'l Look> {
    let mut leases: HashMap<&str, LeaseId> = leases.collect();
    let mut held = Vec::with_capacity(looks.len());
    for look in looks {
        let job_id = look.job_id.as_str();
        if leases.get(job_id) == Some(&look.lease) {
            leases.remove(job_id);
            held.push(look);
        }
    }
    held
}

/// What a look writes into one watch: its state, and what it has reported.
pub(crate) struct ChangeRow<'l> {
    pub(crate) watch_id: IdBytes,
    pub(crate) job_id: &'l str,
    pub(crate) state: &'static str,
    pub(crate) progress: String,
    pub(crate) at: i64,
}

/// Returns the changes of watches by looks.
pub(crate) fn change_rows<'l>(looks: &[&'l Look]) -> Result<Vec<ChangeRow<'l>>, StoreError> {
    let changes = looks.iter().flat_map(|look| {
        look.changes.iter().map(|change| {
            Ok(ChangeRow {
                watch_id: change.watch_id.to_bytes(),
                job_id: look.job_id.as_str(),
                state: change.state.as_str(),
                progress: serde_json::to_string(&change.progress).map_err(unwritable)?,
                at: look.at.as_millisecond(),
            })
        })
    });
    changes.collect()
}

/// An event that a look adds to a watch, as the columns of `events` and `outbox`.
pub(crate) struct NewEventRow {
    pub(crate) event_id: IdBytes,
    pub(crate) watch_id: IdBytes,
    pub(crate) at: i64,
    pub(crate) client_id: i64,
    pub(crate) host: String,
    pub(crate) deadline: Option<i64>,
    /// The claim under which it goes to the worker at once.
    pub(crate) lease_id: Option<IdBytes>,
    pub(crate) event: EventToSend,
}

/// The parts of a new event that sending it needs.
pub(crate) struct EventToSend {
    pub(crate) event: EventId,
    pub(crate) watch: WatchId,
    pub(crate) body: String,
    pub(crate) job_id: JobId,
    pub(crate) callback_url: String,
    pub(crate) traceparent: Option<String>,
    /// Whether it is the first event of its watch, so that no other delivery can be in its way.
    pub(crate) is_first: bool,
}

/// Returns the events that follow earlier ones of their watch.
pub(crate) fn later_event_rows(news: &[NewEventRow]) -> Vec<&NewEventRow> {
    news.iter().filter(|row| !row.event.is_first).collect()
}

/// Returns the new events of the watches that changed, which are those of the rows.
pub(crate) fn event_rows<R: AnyRow>(
    looks: &[&Look],
    changed: &[R],
) -> Result<Vec<NewEventRow>, StoreError> {
    let events = looks.iter().flat_map(|look| {
        look.changes.iter().filter_map(|change| {
            let event = change.event.as_ref()?;
            Some((change.watch_id, (*look, event)))
        })
    });
    let mut events: HashMap<WatchId, (&Look, &Event)> = events.collect();
    let mut news = Vec::with_capacity(changed.len());
    for row in changed {
        let cells = ColumnReader::of("watches", "watch_id", row);
        let watch_id: WatchId = cells.id("watch_id")?;
        let Some((look, event)) = events.remove(&watch_id) else {
            continue;
        };
        news.push(NewEventRow {
            event_id: event.id.to_bytes(),
            watch_id: watch_id.to_bytes(),
            at: look.at.as_millisecond(),
            client_id: cells.get("client_id")?,
            host: cells.get("callback_host")?,
            deadline: event.deadline.map(Timestamp::as_millisecond),
            lease_id: None,
            event: EventToSend {
                event: event.id,
                watch: watch_id,
                body: event.to_json().map_err(unwritable)?,
                job_id: look.job_id.clone(),
                callback_url: cells.get("callback_url")?,
                traceparent: cells.opt("traceparent")?,
                is_first: event.body.sequence == 1,
            },
        });
    }
    Ok(news)
}

/// The row of a connection's failure to count.
pub(crate) struct FailureRow<'l> {
    pub(crate) connection_id: &'l str,
    pub(crate) job_id: &'l str,
    pub(crate) at: i64,
}

/// Returns the connections that succeeded, and the failures after the last success of each connection.
pub(crate) fn reports<'l>(looks: &[&'l Look]) -> (Vec<&'l str>, Vec<FailureRow<'l>>) {
    let mut succeeded = Vec::new();
    let mut failures: BTreeMap<&str, Vec<FailureRow<'l>>> = BTreeMap::new();
    for look in looks {
        let Some(report) = &look.connection else {
            continue;
        };
        let failures = failures.entry(&report.connection_id).or_default();
        if report.unavailable {
            failures.push(FailureRow {
                connection_id: &report.connection_id,
                job_id: look.job_id.as_str(),
                at: look.at.as_millisecond(),
            });
        } else {
            failures.clear();
            succeeded.push(report.connection_id.as_str());
        }
    }
    (succeeded, failures.into_values().flatten().collect())
}

/// What a look writes into its job, as the columns of `jobs` and `due_jobs`.
pub(crate) struct JobRow<'l> {
    pub(crate) job_id: &'l str,
    pub(crate) memory: String,
    pub(crate) began: i64,
    pub(crate) at: i64,
    pub(crate) next_look_at: i64,
    pub(crate) urgency: i64,
    /// Whether it still waits for the same bank.
    pub(crate) waits_on: bool,
    pub(crate) bank: Option<&'l str>,
    pub(crate) method: Option<&'l str>,
    pub(crate) user_id: Option<&'l str>,
    pub(crate) connection_id: Option<&'l str>,
}

/// Builds the new rows of the jobs that were looked at.
pub(crate) fn job_rows<'l>(looks: &[&'l Look]) -> Result<Vec<JobRow<'l>>, StoreError> {
    let jobs = looks.iter().map(|look| {
        let bank = match &look.outage {
            OutageChange::None | OutageChange::Unchanged => None,
            OutageChange::Began(bank, _) => Some(bank),
        };
        Ok(JobRow {
            job_id: look.job_id.as_str(),
            memory: serde_json::to_string(&look.memory).map_err(unwritable)?,
            began: look.began.as_millisecond(),
            at: look.at.as_millisecond(),
            next_look_at: look.next_look_at.as_millisecond(),
            urgency: rank(look.urgency),
            waits_on: look.outage == OutageChange::Unchanged,
            bank: bank.map(|bank| bank.institution_id.as_str()),
            method: bank.map(|bank| bank.method.as_str()),
            user_id: look.memory.context.user_id.as_deref(),
            connection_id: look.memory.context.connection_id.as_deref(),
        })
    });
    jobs.collect()
}
