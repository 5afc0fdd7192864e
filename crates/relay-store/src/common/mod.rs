//! The parts that both back ends share: how rows are read, and the decisions that need no database.

mod answers;
mod attempts;
mod banks;
mod batch_loader;
mod batcher;
mod census;
mod claims;
mod clients;
mod console;
mod details;
mod dispatching;
mod duration_samples;
mod error;
mod gather;
mod hints;
mod hosts;
mod looks;
mod migrations;
mod outbox;
mod registration_batch;
mod registrations;
mod row;

use std::time::Duration;

pub(super) use self::{
    answers::{UnansweredChallenge, unanswered},
    attempts::{
        AttemptEffect, HostOutcome, after_rows, attempt_rows, host_words, recorded, tried, waves,
    },
    banks::due_banks,
    batch_loader::{BatchLoader, LoadBatch},
    batcher::{BatchWork, Batcher, Callers, EachResult, tell},
    census::census,
    claims::{KINDS, divide, rank},
    clients::{ClientSecrets, client, resealed, secrets},
    console::{ASKED, failing_host, host_failure},
    details::{
        attempts, due_delivery, due_job, entry, events, redeliverable, version, watches_by_job,
        without_events,
    },
    dispatching::{Blockers, claim_new, secrets_of},
    duration_samples::{
        DurationKey, DurationSamples, MOST_KINDS, durations_found_for_all, known_kinds,
    },
    error::{
        closed, from_migration, is_collision, is_connection_lost, is_lost, is_pooled, unwritable,
    },
    hints::{HINTS_REMEMBERED_FOR, JobsOf, MOST_HINTED_JOBS},
    hosts::{DOUBLINGS, FAILURES, PAUSE, given_up, is_failing, log_pause, log_recovery, recovered},
    looks::{
        ChangeRow, FailureRow, NewEventRow, changes, claims, held, jobs, later_news, news, reports,
    },
    migrations::embedded,
    outbox::{DeliveryCandidate, choose, full_hosts},
    registration_batch::{RegisterBatch, RegistrationBatch},
    registrations::{
        ClientStandings, DueRow, answer, claimed_jobs, clients_of, decide, due_rows, existing,
        found, is_near_cap, known, not_there, open_rows, standings, watch_rows,
    },
    row::{AnyRow, ColumnReader, WrongType, earlier, int, later, millis, time},
};

/// How long a row that cannot be read is put off.
pub(super) const REST_OF_UNREADABLE: Duration = Duration::from_hours(1);

/// How far back failures of a connection count. They are kept at least this long, even if the retention is shorter.
pub(super) const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);
