//! Divides a claim among the kinds of jobs.

use crate::Urgency;

/// The number of kinds of jobs: 0 for first looks, 1 for open challenges, 2 for young jobs, 3 for all others.
pub(crate) const KINDS: usize = 4;

/// Each kind except the first gets at least one fifth of a claim if it wants it, whatever waits before it. Two fifths
/// are left for the most urgent jobs.
const SHARE: usize = 5;

/// Divides a claim of at most `limit` jobs among the kinds. `waiting` has the due jobs of each kind, and `turn`
/// counts the claims.
pub(crate) fn divide(waiting: [usize; KINDS], limit: usize, turn: u32) -> [usize; KINDS] {
    let mut parts = shares(limit, turn);
    for (part, waiting) in parts.iter_mut().zip(waiting) {
        *part = (*part).min(waiting);
    }
    let mut left = limit.saturating_sub(parts.iter().sum());
    for (part, waiting) in parts.iter_mut().zip(waiting) {
        let more = (waiting - *part).min(left);
        *part += more;
        left -= more;
    }
    parts
}

/// Returns the part of a claim that is kept for each kind: a fifth, except for the first kind.
///
/// A claim below five cannot be divided like this. Instead, each kind except the first gets one job in every fifth
/// such claim. `turn` decides which. A clock would give a relay that claims at regular times the same kind every
/// time.
fn shares(limit: usize, turn: u32) -> [usize; KINDS] {
    let share = limit / SHARE;
    if share > 0 {
        return [0, share, share, share];
    }
    match turn % 5 {
        0 => [0, 0, 0, 1],
        1 => [0, 0, 1, 0],
        2 => [0, 1, 0, 0],
        _ => [0; KINDS],
    }
}

/// Returns the kind of a job with this urgency. First looks have kind 0, before all others.
pub(crate) fn rank(urgency: Urgency) -> i64 {
    match urgency {
        Urgency::High => 1,
        Urgency::Young => 2,
        Urgency::Normal => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_urgent_go_first_and_each_kind_has_its_share() {
        for (waiting, limit, parts) in [
            ([0, 0, 0, 0], 10, [0, 0, 0, 0]),
            ([3, 2, 1, 9], 20, [3, 2, 1, 9]),
            ([99, 99, 99, 99], 10, [4, 2, 2, 2]),
            ([0, 99, 99, 99], 10, [0, 6, 2, 2]),
            ([0, 0, 99, 99], 10, [0, 0, 8, 2]),
            ([99, 0, 0, 1], 10, [9, 0, 0, 1]),
            ([0, 0, 0, 99], 10, [0, 0, 0, 10]),
            ([1, 1, 99, 1], 10, [1, 1, 7, 1]),
        ] {
            assert_eq!(divide(waiting, limit, 3), parts, "{waiting:?}");
        }
    }

    #[test]
    fn small_claims_serve_each_kind_in_turn() {
        for limit in 1..5 {
            let mut served = [0; KINDS];
            for turn in 0..100 {
                let parts = divide([99; KINDS], limit, turn);
                assert_eq!(parts.iter().sum::<usize>(), limit);
                served = std::array::from_fn(|kind| served[kind] + parts[kind]);
            }
            assert_eq!(served[1..], [20, 20, 20], "{limit}");
            assert_eq!(served[0], 100 * limit - 60, "{limit}");
        }
    }
}
