//! Decides the effect of an attempt on its event.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use relay_domain::{DeliveryState, ErrorChain, EventId, clock::later};
use tracing::{error, warn};

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    error::unwritable,
    rows::{AnyRow, ColumnReader, EventKind, IdBytes, StoredAttempt},
    rules::is_failing,
};

/// The most by which the clocks of a relay and of its database differ.
const CLOCKS_DIFFER: Duration = Duration::from_millis(100);

/// An event as it is when an attempt to deliver it is recorded.
pub(crate) struct AttemptedEvent {
    pub(crate) source_id: IdBytes,
    pub(crate) kind: EventKind,
    host: String,
    state: DeliveryState,
    /// When the state last changed, in milliseconds.
    updated_at: i64,
    attempts: Vec<StoredAttempt>,
    /// The event that the outbox holds for the source: this one, or another one.
    queued: Option<EventId>,
    /// When the outbox has this event tried next.
    next_attempt_at: Option<Timestamp>,
    /// Whether the attempt's claim still holds.
    held: bool,
    /// Whether the host has failed since its last answer.
    host_failed: bool,
}

impl AttemptedEvent {
    /// Reads the event of an attempt's result, with the outbox's row of its source.
    fn read(row: &dyn AnyRow, result: &AttemptResult) -> Result<Self, StoreError> {
        let cells = ColumnReader::of("events", "event_id", row);
        let queued: Option<EventId> = cells.id_opt("queued")?;
        let is_queued = queued == Some(cells.id("event_id")?);
        let lease: Option<IdBytes> = cells.id_opt("lease_id")?;
        Ok(Self {
            source_id: cells.id("source_id")?,
            kind: cells.read("kind", EventKind::from_word)?,
            host: cells.get("host")?,
            state: cells.read("state", DeliveryState::from_word)?,
            updated_at: cells.get("updated_at")?,
            attempts: cells.json("attempts")?,
            queued,
            next_attempt_at: cells.time_opt("next_attempt_at")?.filter(|_| is_queued),
            held: lease == Some(result.lease.to_bytes()),
            host_failed: cells.get("host_failed")?,
        })
    }

    /// Whether the attempt of this result is recorded already.
    fn knows(&self, result: &AttemptResult) -> bool {
        let mut attempts = self.attempts.iter();
        attempts.any(|attempt| attempt.lease_id == result.lease)
    }
}

/// Splits results, in their order, into parts that name each delivery at most once.
pub(crate) fn waves(results: &[AttemptResult]) -> Vec<Vec<&AttemptResult>> {
    let mut waves: Vec<(HashSet<_>, Vec<_>)> = Vec::new();
    for result in results {
        let free = waves
            .iter_mut()
            .find(|(ids, _)| !ids.contains(&result.delivery_id));
        match free {
            Some((ids, wave)) => {
                ids.insert(result.delivery_id);
                wave.push(result);
            }
            None => waves.push((HashSet::from([result.delivery_id]), vec![result])),
        }
    }
    waves.into_iter().map(|(_, wave)| wave).collect()
}

/// Returns the events that were tried.
pub(crate) fn tried(results: &[&AttemptResult]) -> Vec<IdBytes> {
    let events = results
        .iter()
        .map(|result| EventId::from(result.delivery_id).to_bytes());
    events.collect()
}

/// What an attempt, or its omission, does to its event: the new state and the time of the next attempt.
pub(crate) struct AttemptEffect<'r> {
    pub(crate) result: &'r AttemptResult,
    pub(crate) found: AttemptedEvent,
    pub(crate) ended_at: Timestamp,
    /// The attempt's number, which is the next free one. None if no attempt was made.
    number: Option<u32>,
    state: DeliveryState,
    next_attempt_at: Option<Timestamp>,
}

/// Decides the effects of results, by the rows of their events.
///
/// Leaves out an attempt that was recorded before, and one whose event is gone or damaged, so that others are
/// recorded.
pub(crate) fn attempt_effects<'r, R: AnyRow>(
    results: &[&'r AttemptResult],
    rows: &[R],
) -> Result<Vec<AttemptEffect<'r>>, StoreError> {
    let by_id = results
        .iter()
        .map(|result| (EventId::from(result.delivery_id), *result));
    let mut by_id: HashMap<EventId, &AttemptResult> = by_id.collect();
    let mut recorded = Vec::with_capacity(rows.len());
    for row in rows {
        let cells = ColumnReader::of("events", "event_id", row);
        let Some(result) = by_id.remove(&cells.id("event_id")?) else {
            continue;
        };
        match AttemptedEvent::read(row, result) {
            Ok(found) if found.knows(result) => {}
            Ok(found) => recorded.push(AttemptEffect::of(result, found)),
            Err(failure) => error!(error = %ErrorChain(&failure), "an attempt cannot be recorded"),
        }
    }
    for id in by_id.keys() {
        warn!(event.id = %id, "an event was deleted before its attempt was recorded");
    }
    Ok(recorded)
}

impl<'r> AttemptEffect<'r> {
    fn of(result: &'r AttemptResult, found: AttemptedEvent) -> Self {
        let (state, next_attempt_at) = after(&found, result);
        let latest = found.attempts.last().map_or(0, |attempt| attempt.number);
        let number = result.attempt.as_ref().map(|attempt| attempt.number);
        Self {
            result,
            number: number.map(|number| number.max(latest + 1)),
            state,
            next_attempt_at,
            ended_at: ended_at(result, &found),
            found,
        }
    }

    /// Whether the event leaves the outbox.
    fn leaves_outbox(&self) -> bool {
        self.state != DeliveryState::Pending && self.found.queued == Some(self.event_id())
    }

    fn event_id(&self) -> EventId {
        self.result.delivery_id.into()
    }
}

/// The new values of an event that was tried.
pub(crate) struct TriedEventRow {
    pub(crate) event_id: IdBytes,
    pub(crate) state: &'static str,
    pub(crate) attempts: String,
    pub(crate) updated_at: i64,
}

/// Builds the new values of the events.
pub(crate) fn tried_events(
    recorded: &[AttemptEffect<'_>],
) -> Result<Vec<TriedEventRow>, StoreError> {
    let rows = recorded.iter().map(|one| {
        let made = one.number.zip(one.result.attempt.as_ref());
        let made =
            made.map(|(number, attempt)| StoredAttempt::of(attempt, number, one.result.lease));
        let attempts = StoredAttempt::list(&one.found.attempts, made.as_ref());
        let changed = one.state != one.found.state;
        let ended_at = one.ended_at.as_millisecond();
        Ok(TriedEventRow {
            event_id: one.event_id().to_bytes(),
            state: one.state.as_str(),
            attempts: serde_json::to_string(&attempts).map_err(unwritable)?,
            updated_at: if changed {
                ended_at
            } else {
                one.found.updated_at
            },
        })
    });
    rows.collect()
}

/// The row of an event that leaves the outbox.
pub(crate) struct UnqueuedRow {
    pub(crate) source_id: IdBytes,
    pub(crate) event_id: IdBytes,
}

/// Returns the events that leave the outbox.
pub(crate) fn unqueued(recorded: &[AttemptEffect<'_>]) -> Vec<UnqueuedRow> {
    let ended = recorded.iter().filter(|one| one.leaves_outbox());
    let ended = ended.map(|one| UnqueuedRow {
        source_id: one.found.source_id,
        event_id: one.event_id().to_bytes(),
    });
    ended.collect()
}

/// Returns the messages of Basiq's that were accepted.
pub(crate) fn accepted_messages(recorded: &[AttemptEffect<'_>]) -> Vec<IdBytes> {
    let accepted = recorded.iter().filter(|one| {
        one.found.kind == EventKind::Message && one.state == DeliveryState::Delivered
    });
    accepted.map(|one| one.event_id().to_bytes()).collect()
}

/// Returns the subscriptions whose notice leaves the outbox, each with the time, so that a later notice can follow.
pub(crate) fn subscriptions_with_room(recorded: &[AttemptEffect<'_>]) -> Vec<(IdBytes, i64)> {
    let ended = recorded
        .iter()
        .filter(|one| one.found.kind == EventKind::Notice && one.leaves_outbox());
    let ended = ended.map(|one| (one.found.source_id, one.ended_at.as_millisecond()));
    ended.collect()
}

/// The change of an outbox row that stays: its event is tried again, or it holds another event of the source.
pub(crate) struct RequeuedRow {
    pub(crate) source_id: IdBytes,
    pub(crate) event_id: IdBytes,
    /// The claim that ends.
    pub(crate) lease_id: IdBytes,
    /// None leaves the time as it is.
    pub(crate) next_attempt_at: Option<i64>,
    /// The number of the attempt. None if no attempt was made.
    pub(crate) number: Option<i64>,
}

/// Returns the changes of the outbox rows that stay.
pub(crate) fn requeued(recorded: &[AttemptEffect<'_>]) -> Vec<RequeuedRow> {
    let stay = recorded
        .iter()
        .filter(|one| one.found.queued.is_some() && !one.leaves_outbox());
    let stay = stay.map(|one| RequeuedRow {
        source_id: one.found.source_id,
        event_id: one.event_id().to_bytes(),
        lease_id: one.result.lease.to_bytes(),
        next_attempt_at: one.next_attempt_at.map(Timestamp::as_millisecond),
        number: one.number.map(i64::from),
    });
    stay.collect()
}

/// What attempts showed about a host: whether it answered, and when it failed since then.
#[derive(Default)]
pub(crate) struct HostOutcome {
    /// Whether it was known to fail before.
    pub(crate) had_failed: bool,
    pub(crate) answered: bool,
    /// Whether it was known to fail, and failed under a relay that pauses no host.
    pub(crate) clears_failures: bool,
    pub(crate) failed_at: Vec<Timestamp>,
}

/// Returns what attempts showed about their hosts, by name. Takes the attempts in the order in which they ended.
pub(crate) fn host_outcomes<'r>(
    recorded: &'r [AttemptEffect<'_>],
) -> BTreeMap<&'r str, HostOutcome> {
    let mut ended: Vec<_> = recorded.iter().collect();
    ended.sort_by_key(|one| one.ended_at);
    let mut outcomes: BTreeMap<&str, HostOutcome> = BTreeMap::new();
    for one in ended {
        match one.result.attempt.as_ref().and_then(is_failing) {
            None => {}
            Some(true) if !one.result.counts_against_host => {
                let outcome = outcomes.entry(&one.found.host).or_default();
                outcome.clears_failures |= one.found.host_failed;
            }
            Some(true) => {
                let outcome = outcomes.entry(&one.found.host).or_default();
                outcome.failed_at.push(one.ended_at);
            }
            // an answer clears the failures before it
            Some(false) => {
                let outcome = outcomes.entry(&one.found.host).or_default();
                outcome.answered = true;
                outcome.had_failed |= one.found.host_failed;
                outcome.failed_at.clear();
            }
        }
    }
    outcomes
}

/// Returns the state of an event after an attempt, and when it is tried next.
fn after(found: &AttemptedEvent, result: &AttemptResult) -> (DeliveryState, Option<Timestamp>) {
    let may_schedule = found.held && found.state == DeliveryState::Pending;
    let is_wanted_again = may_schedule && is_redelivered_since(found, result);
    match result.next {
        AfterAttempt::Delivered => (DeliveryState::Delivered, None),
        AfterAttempt::RetryAt(_) | AfterAttempt::Dead if is_wanted_again => {
            (DeliveryState::Pending, found.next_attempt_at)
        }
        AfterAttempt::RetryAt(at) if may_schedule => (DeliveryState::Pending, Some(at)),
        AfterAttempt::Dead if may_schedule => (DeliveryState::Dead, None),
        // nothing ends with the address for Basiq's messages, which an operator may correct
        AfterAttempt::Gone if may_schedule && found.kind == EventKind::Message => {
            (DeliveryState::Dead, None)
        }
        AfterAttempt::Expired if may_schedule => (DeliveryState::Expired, None),
        AfterAttempt::RetryAt(_)
        | AfterAttempt::Dead
        | AfterAttempt::Expired
        | AfterAttempt::Gone => (found.state, found.next_attempt_at),
    }
}

/// Whether somebody sent the event again by hand while the attempt was in flight. Only that gives an event in flight a
/// later due time.
fn is_redelivered_since(found: &AttemptedEvent, result: &AttemptResult) -> bool {
    let since = result.attempt.as_ref().map(|attempt| attempt.started_at);
    let due = found.next_attempt_at.zip(since);
    due.is_some_and(|(due, since)| due > later(since, CLOCKS_DIFFER))
}

/// Returns when an attempt ended. If the event expired before an attempt was made, that is its due time.
fn ended_at(result: &AttemptResult, found: &AttemptedEvent) -> Timestamp {
    let Some(attempt) = &result.attempt else {
        return found.next_attempt_at.unwrap_or(Timestamp::UNIX_EPOCH);
    };
    let ended_at = attempt.started_at.checked_add(attempt.duration);
    ended_at.unwrap_or(attempt.started_at)
}
