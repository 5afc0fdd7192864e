//! Derives what to remember of a job after a look. Pure.

use basiq_client::normalise::Finding;
use jiff::Timestamp;
use relay_domain::{ChallengeMemory, JobContext, JobMemory, JobSnapshot, OpenChallenge, StepView};

use crate::tracker::stages;

/// Returns the memory of a job after Basiq returned its document.
#[must_use]
pub fn observe(
    before: &JobMemory,
    snapshot: &JobSnapshot,
    finding: &Finding,
    now: Timestamp,
) -> JobMemory {
    let steps = snapshot
        .steps
        .iter()
        .map(|step| StepView {
            title: step.title.clone(),
            status: step.status.as_str().to_owned(),
        })
        .collect::<Vec<_>>();
    let changed = before.first_look_at.is_none() || steps != before.steps;
    let stages = stages::observe(before, snapshot, finding, &steps, now);
    JobMemory {
        first_look_at: before.first_look_at.or(Some(now)),
        created: snapshot
            .created
            .filter(|created| *created <= now)
            .or(before.created),
        changed_at: if changed {
            Some(now)
        } else {
            before.changed_at
        },
        steps,
        seen_at: Some(now),
        stages,
        look_without_hints_at: None,
        context: merge(&before.context, &snapshot.context),
        challenges: challenges(&before.challenges, finding, now),
        errors_in_a_row: 0,
        missing_since: None,
        forbidden_since: None,
        phase: before.phase.clone(),
    }
}

/// Counts challenges. A challenge that follows an answered one or replaces an open one is new. The same
/// challenge counts once and keeps the time at which it was first seen.
fn challenges(before: &ChallengeMemory, finding: &Finding, now: Timestamp) -> ChallengeMemory {
    let Finding::Challenge(challenge) = finding else {
        return ChallengeMemory {
            count: before.count,
            open: None,
        };
    };
    match &before.open {
        Some(open) if open.challenge.is_same_as(challenge) => before.clone(),
        _ => ChallengeMemory {
            count: before.count.saturating_add(1),
            open: Some(OpenChallenge {
                challenge: challenge.clone(),
                first_seen_at: now,
            }),
        },
    }
}

/// Merges the context of two documents. A value that was once known stays known if a later document omits it.
fn merge(before: &JobContext, now: &JobContext) -> JobContext {
    let newer =
        |now: &Option<String>, before: &Option<String>| now.clone().or_else(|| before.clone());
    JobContext {
        job_type: newer(&now.job_type, &before.job_type),
        user_id: newer(&now.user_id, &before.user_id),
        connection_id: newer(&now.connection_id, &before.connection_id),
        institution_id: newer(&now.institution_id, &before.institution_id),
    }
}

#[cfg(test)]
mod tests {
    use relay_domain::Challenge;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn asks(description: &str) -> Finding {
        Finding::Challenge(Challenge {
            method: "token".into(),
            description: description.into(),
            inputs: vec!["Code".into()],
            expiry_ms: None,
            respond_to: None,
        })
    }

    fn after(before: &JobMemory, finding: &Finding, seconds: i64) -> JobMemory {
        observe(before, &JobSnapshot::default(), finding, at(seconds))
    }

    #[test]
    fn a_challenge_is_counted_once_and_again_after_an_answer_or_a_change() {
        let first = after(&JobMemory::default(), &asks("one"), 0);
        assert_eq!(first.challenges.count, 1);
        let same = after(&first, &asks("one"), 5);
        assert_eq!(same.challenges, first.challenges);
        let answered = after(&same, &Finding::Running, 6);
        assert_eq!(
            (answered.challenges.count, &answered.challenges.open),
            (1, &None)
        );
        let again = after(&answered, &asks("one"), 8);
        assert_eq!(again.challenges.count, 2);
        let other = after(&again, &asks("two"), 9);
        assert_eq!(other.challenges.count, 3);
        assert_eq!(other.challenges.open.unwrap().first_seen_at, at(9));
    }

    #[test]
    fn a_creation_in_the_future_is_not_believed() {
        let snapshot = JobSnapshot {
            created: Some(at(60)),
            ..JobSnapshot::default()
        };
        let seen = observe(&JobMemory::default(), &snapshot, &Finding::Running, at(0));
        assert_eq!(seen.created, None);
        let later = observe(&seen, &snapshot, &Finding::Running, at(60));
        assert_eq!(later.created, Some(at(60)));
        assert_eq!(later.first_look_at, Some(at(0)));
    }

    #[test]
    fn what_was_known_of_the_job_stays_known_and_errors_are_forgotten() {
        let before = JobMemory {
            context: JobContext {
                user_id: Some("u".into()),
                ..JobContext::default()
            },
            errors_in_a_row: 3,
            missing_since: Some(at(-5)),
            ..JobMemory::default()
        };
        let seen = after(&before, &Finding::Running, 0);
        assert_eq!(seen.context.user_id.as_deref(), Some("u"));
        assert_eq!((seen.errors_in_a_row, seen.missing_since), (0, None));
    }
}
