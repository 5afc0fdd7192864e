//! Decisions that need no database. Both back ends share them.

mod activity;
mod answers;
mod attempts;
mod claims;
mod clock_step;
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
        AttemptEffect, HostOutcome, accepted_messages, attempt_effects, host_outcomes, requeued,
        subscriptions_with_room, tried, tried_events, unqueued, waves,
    },
    claims::{KINDS, divide, rank},
    clock_step::{longest_hold, moved_memory, written_since},
    deliveries::merged,
    dispatching::{Blockers, claim_new, secrets_of},
    duration_samples::{
        DurationKey, DurationSamples, MOST_KINDS, durations_found_for_all, known_kinds, slot,
    },
    erasure::{
        ErasedIds, ErasedKey, ErasureKey, connection_in_notice, connection_key, erased_at,
        keys_of_hint, keys_of_look, messages_to_erase,
    },
    hints::{HINTS_REMEMBERED_FOR, JobsOf, LIST_INTERVAL, MOST_HINTED_JOBS, ended_by, fact_key},
    hosts::{
        DOUBLINGS, FAILURES, PAUSE, given_up, is_failing, log_pause, log_recovery, recovered,
        source_id,
    },
    looks::{
        ChangeRow, FailureRow, JobRow, NewEventRow, change_rows, claim_rows, event_rows, held,
        job_rows, later_event_rows, reports,
    },
    outbox::{DeliveryCandidate, choose, full_hosts},
    registrations::{
        ClientStandings, DueRow, claimed_jobs, clients_of, decide, due_rows, existing_result,
        existing_watches, is_near_cap, memories_by_job, not_there, open_rows, result_of, standings,
        watch_rows,
    },
    subscriptions::{
        JobHistory, JobOfSubscription, SubscriptionRow, jobs_of_subscriptions, message_row,
        notice_row, watch_of,
    },
};

/// How far back failures of a connection count. They are kept at least this long, even if the retention is shorter.
pub(super) const FAILURES_COUNT_FOR: Duration = Duration::from_hours(24);

/// How long Basiq lists a job, with a day to spare. Seen jobs are kept at least this long, even if the retention is
/// shorter.
pub(super) const LISTED_FOR: Duration = Duration::from_hours(8 * 24);
