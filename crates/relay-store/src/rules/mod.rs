//! Decisions that need no database. Both back ends share them.

mod answers;
mod attempts;
mod claims;
mod dispatching;
mod duration_samples;
mod hints;
mod hosts;
mod looks;
mod outbox;
mod registrations;

use std::time::Duration;

pub(super) use self::{
    answers::{UnansweredChallenge, unanswered},
    attempts::{
        AttemptEffect, HostOutcome, host_outcomes, recorded, requeued, tried, tried_events,
        unqueued, waves,
    },
    claims::{KINDS, divide, rank},
    dispatching::{Blockers, claim_new, secrets_of},
    duration_samples::{
        DurationKey, DurationSamples, MOST_KINDS, durations_found_for_all, known_kinds,
    },
    hints::{HINTS_REMEMBERED_FOR, JobsOf, MOST_HINTED_JOBS},
    hosts::{DOUBLINGS, FAILURES, PAUSE, given_up, is_failing, log_pause, log_recovery, recovered},
    looks::{
        ChangeRow, FailureRow, JobRow, NewEventRow, changes, claims, held, jobs, later_news, news,
        reports,
    },
    outbox::{DeliveryCandidate, choose, full_hosts},
    registrations::{
        ClientStandings, DueRow, answer, claimed_jobs, clients_of, decide, due_rows, existing,
        found, is_near_cap, known, not_there, open_rows, standings, watch_rows,
    },
};

/// How far back failures of a connection count. They are kept at least this long, even if the retention is shorter.
pub(super) const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);
