//! What all back ends share: how rows are read, and what is decided without a database.

mod attempts;
mod census;
mod claims;
mod console;
mod error;
mod gather;
mod handing;
mod hosts;
mod lessons;
mod looks;
mod lookups;
mod outbox;
mod registrar;
mod registrations;
mod row;
mod stories;

use std::time::Duration;

pub(super) use self::{
    attempts::{HostWord, Recorded, after_rows, attempt_rows, host_words, recorded, tried, waves},
    census::census,
    claims::{KINDS, divide, rank},
    console::{ASKED, failing_host, host_failure},
    error::{
        closed, from_migration, is_collision, is_connection_lost, is_lost, is_pooled, shared,
        unwritable,
    },
    handing::{Obstacles, claim_new, secrets_of},
    hosts::{DOUBLINGS, FAILURES, PAUSE, given_up, is_failing},
    lessons::{Lessons, MOST_KINDS, PaceKey, known_kinds, paces_found},
    looks::{
        ChangeRow, FailureRow, NewsRow, changes, claims, held, jobs, later_news, news, reports,
    },
    lookups::{Finds, FoundEach, Lookups},
    outbox::{Candidate, choose, full_hosts},
    registrar::{Registered, Registers, Registrar},
    registrations::{
        DueRow, NewClaim, Standings, answer, claimed_jobs, clients_of, decide, due_rows, existing,
        found, is_near_cap, known, not_there, open_rows, standings, watch_rows,
    },
    row::{AnyRow, Cells, WrongType, earlier, int, later, millis, time},
    stories::{
        Secrets, attempts, client, due_delivery, due_job, entry, events, redeliverable, secrets,
        version, watches_by_job, without_events,
    },
};

/// How long a row that cannot be read is left alone.
pub(super) const REST_OF_UNREADABLE: Duration = Duration::from_hours(1);

/// How far back failures of a connection count, and how long they are kept at least, however short the
/// retention.
pub(super) const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);
