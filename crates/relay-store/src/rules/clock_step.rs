//! What moves with a clock that was set.

use jiff::Timestamp;
use relay_domain::{JobMemory, Phase, clock::later};

use crate::ClockStep;

/// The longest time in milliseconds for which anything holds. Leases and pauses last a minute or two.
macro_rules! longest_hold {
    () => {
        300_000
    };
}
pub(crate) use longest_hold;

/// In milliseconds: a recorded time up to this far ahead of a clock that was set back may be of that clock.
macro_rules! written_since {
    () => {
        5_000
    };
}
pub(crate) use written_since;

/// Moves the times in a job's memory after the clock was set back: the next expected retry, and since when the job is
/// absent. Returns none if no time moves, or if the memory cannot be read.
pub(crate) fn moved_memory(memory: &str, step: ClockStep) -> Option<String> {
    let mut memory: JobMemory = serde_json::from_str(memory).ok()?;
    let new_clock_until = later(step.to, std::time::Duration::from_millis(written_since!()));
    let times = [
        memory.missing_since.as_mut(),
        memory.forbidden_since.as_mut(),
        next_retry(&mut memory.phase),
    ];
    let mut moves = false;
    for time in times.into_iter().flatten() {
        if *time > new_clock_until {
            *time = time.saturating_add(step.length()).unwrap_or(step.to);
            moves = true;
        }
    }
    moves.then(|| serde_json::to_string(&memory).ok()).flatten()
}

fn next_retry(phase: &mut Phase) -> Option<&mut Timestamp> {
    match phase {
        Phase::RetryQueue { next_retry_at, .. } => Some(next_retry_at),
        Phase::Running | Phase::Outage { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use relay_domain::StepView;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn times_ahead_of_the_clock_move_with_it_and_all_else_stays() {
        let step = ClockStep {
            from: at(3600),
            to: at(0),
        };
        let memory = JobMemory {
            missing_since: Some(at(3590)),
            forbidden_since: Some(at(3)),
            seen_at: Some(at(3580)),
            steps: vec![StepView {
                title: "a NUL: \0".to_owned(),
                status: "pending".to_owned(),
            }],
            phase: Phase::RetryQueue {
                next_retry_at: at(10_800),
                looks: 1,
            },
            ..JobMemory::default()
        };
        let moved = moved_memory(&serde_json::to_string(&memory).unwrap(), step).unwrap();
        let expected = JobMemory {
            missing_since: Some(at(-10)),
            phase: Phase::RetryQueue {
                next_retry_at: at(7200),
                looks: 1,
            },
            ..memory
        };
        let moved: JobMemory = serde_json::from_str(&moved).unwrap();
        assert_eq!(
            moved, expected,
            "the new clock may have written the time 3 s ahead"
        );
    }

    #[test]
    fn a_memory_without_such_times_is_not_written() {
        let step = ClockStep {
            from: at(3600),
            to: at(0),
        };
        for memory in [
            "{}",
            "damaged",
            r#"{"missing_since":"2027-01-15T08:00:00Z"}"#,
        ] {
            assert_eq!(moved_memory(memory, step), None, "{memory}");
        }
    }
}
