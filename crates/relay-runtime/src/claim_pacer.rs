//! Decides when a worker claims from the store, and divides its free slots between claims and new work, which is sent
//! to it directly.

use std::time::Duration;

use tokio::time::Instant;

/// The minimum time between two claims while new work is sent directly. A claim then finds little, and new work gets
/// only half of the slots during a claim.
const INTERVAL: Duration = Duration::from_millis(10);

/// When a worker last claimed from the store, and what has happened since.
#[derive(Debug, Default)]
pub struct ClaimPacer {
    latest: Option<Instant>,
    /// The claim found as much as it asked for, so there may be more.
    full: bool,
    /// New work was sent directly since the claim.
    received: bool,
}

/// How a worker divides its free slots between the next claim and new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotDivision {
    /// The claim gets all slots, because older work waits. New work must not overtake it.
    ClaimOnly,
    /// The claim and new work get half of the slots each.
    Halves,
    /// New work gets all slots. The next claim waits for this time.
    NewWorkOnly(Duration),
}

/// Whether work may wait for a host whose slots were full at the latest claim and are free now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostBacklog {
    /// No work waits for a host.
    None,
    /// Work may wait, and no other relay uses the store.
    OneRelay,
    /// Work may wait, and other relays use the store. Slots that the claim does not fill are left to the work that they
    /// claim first.
    ManyRelays,
}

impl SlotDivision {
    /// Divides the slots. If `is_full`, the latest claim may have left due work in the store. The next claim can wait
    /// for `can_wait`; it is due if that is none.
    fn of(is_full: bool, hosts: HostBacklog, can_wait: Option<Duration>) -> Self {
        match (is_full, hosts, can_wait) {
            (true, _, _) | (false, HostBacklog::ManyRelays, _) => Self::ClaimOnly,
            (false, HostBacklog::OneRelay, _) | (false, HostBacklog::None, None) => Self::Halves,
            (false, HostBacklog::None, Some(wait)) => Self::NewWorkOnly(wait),
        }
    }

    /// Returns how many of the free slots new work gets. Of an odd number, the claim gets one more.
    #[must_use]
    pub fn for_new_work(self, free: usize) -> usize {
        match self {
            Self::ClaimOnly => 0,
            Self::Halves => free / 2,
            Self::NewWorkOnly(_) => free,
        }
    }
}

impl ClaimPacer {
    /// Divides the free slots until the next claim ends.
    #[must_use]
    pub fn divide(&self, hosts: HostBacklog) -> SlotDivision {
        SlotDivision::of(self.full, hosts, self.can_wait())
    }

    /// Returns how long the next claim can wait; none if it is due.
    fn can_wait(&self) -> Option<Duration> {
        let latest = self.latest.filter(|_| self.received && !self.full)?;
        let rest = INTERVAL.saturating_sub(latest.elapsed());
        (!rest.is_zero()).then_some(rest)
    }

    /// Records a claim. `full` means that the store may have more work.
    pub fn claimed(&mut self, full: bool) {
        *self = Self {
            latest: Some(Instant::now()),
            full,
            received: false,
        };
    }

    /// Records that new work was sent directly.
    pub fn received(&mut self) {
        self.received = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_work_gets_all_slots_while_the_claim_can_wait_half_otherwise_and_none_during_a_backlog() {
        use HostBacklog::{ManyRelays, None as Nobody, OneRelay};
        let wait = Duration::from_millis(4);
        for (is_full, hosts, can_wait, expected, of_nine) in [
            (
                false,
                Nobody,
                Some(wait),
                SlotDivision::NewWorkOnly(wait),
                9,
            ),
            (false, Nobody, None, SlotDivision::Halves, 4),
            (false, OneRelay, Some(wait), SlotDivision::Halves, 4),
            (false, OneRelay, None, SlotDivision::Halves, 4),
            (false, ManyRelays, Some(wait), SlotDivision::ClaimOnly, 0),
            (false, ManyRelays, None, SlotDivision::ClaimOnly, 0),
            (true, Nobody, Some(wait), SlotDivision::ClaimOnly, 0),
            (true, Nobody, None, SlotDivision::ClaimOnly, 0),
            (true, OneRelay, None, SlotDivision::ClaimOnly, 0),
            (true, ManyRelays, None, SlotDivision::ClaimOnly, 0),
        ] {
            let division = SlotDivision::of(is_full, hosts, can_wait);
            assert_eq!(division, expected, "{is_full} {hosts:?} {can_wait:?}");
            assert_eq!(division.for_new_work(9), of_nine);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_waits_only_while_new_work_is_sent_and_nothing_was_left() {
        let mut pacer = ClaimPacer::default();
        assert_eq!(pacer.can_wait(), None, "there was none yet");
        pacer.claimed(false);
        assert_eq!(pacer.can_wait(), None, "no new work was sent");
        pacer.received();
        tokio::time::advance(Duration::from_millis(4)).await;
        assert_eq!(pacer.can_wait(), Some(Duration::from_millis(6)));
        tokio::time::advance(Duration::from_millis(6)).await;
        assert_eq!(pacer.can_wait(), None, "it is due");
        pacer.claimed(true);
        pacer.received();
        assert_eq!(pacer.can_wait(), None, "work was left");
        assert_eq!(pacer.divide(HostBacklog::None), SlotDivision::ClaimOnly);
    }
}
