//! Decisions that need no database. Both back ends share them.

mod activity;
mod answers;
mod attempts;
mod claims;
mod deliveries;
mod dispatching;
mod duration_samples;
mod erasure;
mod hints;
mod hosts;
mod looks;
mod outbox;
mod registrations;
mod subscriptions;

use std::time::Duration;

pub(super) use self::{
    activity::activity_cells,
    answers::{UnansweredChallenge, unanswered},
    attempts::{
        AttemptEffect, HostOutcome, accepted_messages, host_outcomes, recorded, requeued,
        subscriptions_with_room, tried, tried_events, unqueued, waves,
    },
    claims::{KINDS, divide, rank},
    deliveries::merged,
    dispatching::{Blockers, claim_new, secrets_of},
    duration_samples::{
        DurationKey, DurationSamples, MOST_KINDS, durations_found_for_all, known_kinds, slot,
    },
    erasure::{
        ErasedIds, ErasedKey, ErasureKey, connection_in_notice, connection_key, erased_at,
        keys_of_look, messages_to_erase,
    },
    hints::{HINTS_REMEMBERED_FOR, JobsOf, LIST_INTERVAL, MOST_HINTED_JOBS, fact_key},
    hosts::{
        DOUBLINGS, FAILURES, PAUSE, given_up, is_failing, log_pause, log_recovery, recovered,
        source_id,
    },
    looks::{
        ChangeRow, FailureRow, JobRow, NewEventRow, changes, claims, held, jobs, later_news, news,
        reports,
    },
    outbox::{DeliveryCandidate, choose, full_hosts},
    registrations::{
        ClientStandings, DueRow, answer, claimed_jobs, clients_of, decide, due_rows, existing,
        found, is_near_cap, known, not_there, open_rows, standings, watch_rows,
    },
    subscriptions::{
        JobOfSubscription, SubscriptionRow, jobs_of_subscriptions, message_row, notice_row,
        watch_of,
    },
};

/// How far back failures of a connection count. They are kept at least this long, even if the retention is shorter.
pub(super) const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);

/// How long Basiq lists a job, with a day to spare. Seen jobs are kept at least this long, even if the retention is
/// shorter.
pub(super) const LISTED_FOR: Duration = Duration::from_hours(8 * 24);
