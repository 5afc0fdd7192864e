//! How claims are divided.

use crate::store::Urgency;

/// How many kinds of urgency there are: 0 for first looks, 1 for open challenges, 2 for young jobs,
/// 3 for all others.
pub(in crate::store) const KINDS: usize = 4;

/// The part of claims that each kind but the first gets if it wants it, whatever waits before it: a
/// fifth. Two fifths are left for the most urgent.
const SHARE: usize = 5;

/// How a claim of so many is divided among the kinds, of which so many wait; `turn` counts the claims.
pub(in crate::store) fn divide(waiting: [usize; KINDS], limit: usize, turn: u32) -> [usize; KINDS] {
    let mut parts = shares(limit, turn);
    for (part, waiting) in parts.iter_mut().zip(waiting) {
        *part = (*part).min(waiting);
    }
    let mut room = limit.saturating_sub(parts.iter().sum());
    for (part, waiting) in parts.iter_mut().zip(waiting) {
        let more = (waiting - *part).min(room);
        *part += more;
        room -= more;
    }
    parts
}

/// What of a claim is kept for each kind: a fifth, but for the first. Small claims cannot be divided
/// so; each kind then has a fifth of the turns. They are counted: the clock would tell who claims at
/// regular times the same turn again and again.
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

/// The kind of a job whose next look is so urgent. First looks go before all, with 0.
pub(in crate::store) fn rank(urgency: Urgency) -> i64 {
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
