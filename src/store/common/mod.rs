//! What all back ends share: how rows are read, and what is decided without a database.

mod attempts;
mod census;
mod claims;
mod error;
mod hosts;
mod outbox;
mod row;
mod stories;

use std::time::Duration;

pub(super) use self::{
    attempts::{Found, after, ended_at},
    census::census,
    claims::{KINDS, divide, rank},
    error::{closed, from_migration, is_collision, shared, unwritable},
    hosts::{DOUBLINGS, FAILURES, PAUSE, is_failing},
    outbox::{Candidate, choose, full_hosts},
    row::{AnyRow, Cells, earlier, int, later, millis, time},
    stories::{
        attempts, client, due_delivery, due_job, entry, events, redeliverable, version,
        watches_by_job, without_events,
    },
};

/// How long a row that cannot be read is left alone.
pub(super) const REST_OF_UNREADABLE: Duration = Duration::from_hours(1);

/// How far back failures of a connection count, and how long they are kept at least, however short the
/// retention.
pub(super) const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);
