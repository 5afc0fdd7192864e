//! Decides the effect of an attempt on its delivery.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use relay_domain::{AttemptError, DeliveryState, ErrorChain};
use tracing::{error, warn};

use crate::{
    AfterAttempt, AttemptResult, StoreError,
    rows::{AnyRow, ColumnReader, millis},
    rules::is_failing,
};

/// A delivery as it is when an attempt is recorded.
pub(crate) struct AttemptedDelivery {
    pub(crate) watch_id: String,
    host: String,
    state: DeliveryState,
    next_attempt_at: Option<Timestamp>,
    /// Whether the attempt's claim still holds.
    held: bool,
    /// Whether this attempt was recorded before.
    known: bool,
    /// Whether the host has failed since its last answer.
    host_failed: bool,
}

impl AttemptedDelivery {
    /// Reads the delivery of an attempt's result.
    fn read(row: &dyn AnyRow, result: &AttemptResult) -> Result<Self, StoreError> {
        let cells = ColumnReader::of("deliveries", "delivery_id", row);
        let lease: Option<&str> = cells.opt("lease_id")?;
        Ok(Self {
            watch_id: cells.get("watch_id")?,
            host: cells.get("host")?,
            state: cells.read("state", DeliveryState::from_word)?,
            next_attempt_at: cells.time_opt("next_attempt_at")?,
            held: lease == Some(result.lease.to_string().as_str()),
            known: cells.get("known")?,
            host_failed: cells.get("host_failed")?,
        })
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

/// The claim under which an attempt was made.
pub(crate) struct AttemptClaimRow {
    pub(crate) delivery_id: String,
    pub(crate) lease_id: String,
}

/// Returns the claims of attempts.
pub(crate) fn tried(results: &[&AttemptResult]) -> Vec<AttemptClaimRow> {
    let rows = results.iter().map(|result| AttemptClaimRow {
        delivery_id: result.delivery_id.to_string(),
        lease_id: result.lease.to_string(),
    });
    rows.collect()
}

/// The effect of an attempt.
pub(crate) struct AttemptEffect<'r> {
    pub(crate) result: &'r AttemptResult,
    pub(crate) found: AttemptedDelivery,
    pub(crate) ended_at: Timestamp,
    /// The attempt's number, which is the next free one. None if no attempt was made.
    number: Option<i64>,
    state: DeliveryState,
    next_attempt_at: Option<Timestamp>,
}

/// Decides the effects of results, by the rows of their deliveries.
///
/// Leaves out an attempt that was recorded before, and one whose delivery is gone or damaged, so that others are
/// recorded.
pub(crate) fn recorded<'r, R: AnyRow>(
    results: &[&'r AttemptResult],
    rows: &[R],
) -> Result<Vec<AttemptEffect<'r>>, StoreError> {
    let by_id = results
        .iter()
        .map(|result| (result.delivery_id.to_string(), *result));
    let mut by_id: HashMap<String, &AttemptResult> = by_id.collect();
    let mut recorded = Vec::with_capacity(rows.len());
    for row in rows {
        let cells = ColumnReader::of("deliveries", "delivery_id", row);
        let Some(result) = by_id.remove(cells.get::<&str>("delivery_id")?) else {
            continue;
        };
        match AttemptedDelivery::read(row, result) {
            Ok(found) if found.known => {}
            Ok(found) => recorded.push(AttemptEffect::of(result, found, cells.get("number")?)),
            Err(failure) => error!(error = %ErrorChain(&failure), "an attempt cannot be recorded"),
        }
    }
    for id in by_id.keys() {
        warn!(delivery.id = %id, "a delivery ended before its attempt was recorded");
    }
    Ok(recorded)
}

impl<'r> AttemptEffect<'r> {
    fn of(result: &'r AttemptResult, found: AttemptedDelivery, latest: i64) -> Self {
        let (state, next_attempt_at) = after(&found, result.next);
        let number = result
            .attempt
            .as_ref()
            .map(|attempt| i64::from(attempt.number));
        Self {
            result,
            number: number.map(|number| number.max(latest + 1)),
            state,
            next_attempt_at,
            ended_at: ended_at(result, &found),
            found,
        }
    }
}

/// The row of an attempt.
pub(crate) struct AttemptRow<'r> {
    pub(crate) delivery_id: String,
    pub(crate) number: i64,
    pub(crate) lease_id: String,
    pub(crate) started_at: i64,
    pub(crate) duration: i64,
    pub(crate) status: Option<i64>,
    pub(crate) error: Option<&'static str>,
    pub(crate) response: Option<&'r str>,
    pub(crate) error_detail: Option<&'r str>,
}

/// Builds the rows of the attempts that were made.
pub(crate) fn attempt_rows<'r>(recorded: &[AttemptEffect<'r>]) -> Vec<AttemptRow<'r>> {
    let rows = recorded.iter().filter_map(|one| {
        let attempt = one.result.attempt.as_ref()?;
        Some(AttemptRow {
            delivery_id: one.result.delivery_id.to_string(),
            number: one.number?,
            lease_id: one.result.lease.to_string(),
            started_at: attempt.started_at.as_millisecond(),
            duration: millis(attempt.duration),
            status: attempt.status.map(i64::from),
            error: attempt.error.map(AttemptError::as_str),
            response: attempt.response.as_deref(),
            error_detail: attempt.error_detail.as_deref(),
        })
    });
    rows.collect()
}

/// The new row of a delivery.
pub(crate) struct AfterRow {
    pub(crate) delivery_id: String,
    pub(crate) lease_id: String,
    pub(crate) state: &'static str,
    pub(crate) next_attempt_at: Option<i64>,
    pub(crate) ended_at: i64,
    /// None if no attempt was made.
    pub(crate) number: Option<i64>,
}

/// Builds the new rows of the deliveries.
pub(crate) fn after_rows(recorded: &[AttemptEffect<'_>]) -> Vec<AfterRow> {
    let rows = recorded.iter().map(|one| AfterRow {
        delivery_id: one.result.delivery_id.to_string(),
        lease_id: one.result.lease.to_string(),
        state: one.state.as_str(),
        next_attempt_at: one.next_attempt_at.map(Timestamp::as_millisecond),
        ended_at: one.ended_at.as_millisecond(),
        number: one.number,
    });
    rows.collect()
}

/// What attempts showed about a host: whether it answered, and when it failed since then.
#[derive(Default)]
pub(crate) struct HostOutcome {
    /// Whether it was known to fail before.
    pub(crate) had_failed: bool,
    pub(crate) answered: bool,
    pub(crate) failed_at: Vec<Timestamp>,
}

/// Returns what attempts showed about their hosts, by name. Takes the attempts in the order in which they ended.
pub(crate) fn host_words<'r>(recorded: &'r [AttemptEffect<'_>]) -> BTreeMap<&'r str, HostOutcome> {
    let mut ended: Vec<_> = recorded.iter().collect();
    ended.sort_by_key(|one| one.ended_at);
    let mut words: BTreeMap<&str, HostOutcome> = BTreeMap::new();
    for one in ended {
        match one.result.attempt.as_ref().and_then(is_failing) {
            None => {}
            Some(true) => {
                let word = words.entry(&one.found.host).or_default();
                word.failed_at.push(one.ended_at);
            }
            // an answer clears the failures before it
            Some(false) => {
                let word = words.entry(&one.found.host).or_default();
                word.answered = true;
                word.had_failed |= one.found.host_failed;
                word.failed_at.clear();
            }
        }
    }
    words
}

/// Returns the state of a delivery after an attempt, and when it is tried next.
pub(crate) fn after(
    found: &AttemptedDelivery,
    next: AfterAttempt,
) -> (DeliveryState, Option<Timestamp>) {
    let may_schedule = found.held && found.state == DeliveryState::Pending;
    match next {
        AfterAttempt::Delivered => (DeliveryState::Delivered, None),
        AfterAttempt::RetryAt(at) if may_schedule => (DeliveryState::Pending, Some(at)),
        AfterAttempt::Dead if may_schedule => (DeliveryState::Dead, None),
        AfterAttempt::Expired if may_schedule => (DeliveryState::Expired, None),
        AfterAttempt::RetryAt(_)
        | AfterAttempt::Dead
        | AfterAttempt::Expired
        | AfterAttempt::Gone => (found.state, found.next_attempt_at),
    }
}

/// Returns when an attempt ended. If the delivery expired before an attempt was made, that is its due time.
fn ended_at(result: &AttemptResult, found: &AttemptedDelivery) -> Timestamp {
    let Some(attempt) = &result.attempt else {
        return found.next_attempt_at.unwrap_or(Timestamp::UNIX_EPOCH);
    };
    let ended_at = attempt.started_at.checked_add(attempt.duration);
    ended_at.unwrap_or(attempt.started_at)
}
