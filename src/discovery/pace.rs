//! The part of the budget of calls that lists may use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Lists are the least urgent calls. Of this many calls, one may be a page of a list.
const CALLS_PER_PAGE: u32 = 4;

/// Lists of this much time begin together, so that they share a commit.
const BURST: Duration = Duration::from_millis(500);

/// Spreads lists, so that they use at most a quarter of the budget. Each page of a list is a call.
///
/// A list is counted as one page when it begins. Its further pages are counted as they are requested. The next lists
/// begin later by as much.
#[derive(Debug)]
pub(super) struct ListPace {
    /// The time between two pages of all relays together.
    spacing: Duration,
    /// When this relay may begin the next list.
    next_at: Instant,
    further_pages: FurtherPages,
}

/// How many lists may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListAllowance {
    /// This many lists may begin now.
    Now(usize),
    /// No list may begin before this time has passed.
    After(Duration),
}

/// Counts the calls to Basiq that lists in progress make for their second and later pages. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct FurtherPages(Arc<AtomicU32>);

impl FurtherPages {
    /// Counts one page.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of pages since the last call.
    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl ListPace {
    /// Spreads lists within this budget of calls a second.
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self {
            spacing: Duration::from_secs(1) * CALLS_PER_PAGE / calls_per_second.max(1),
            next_at: Instant::now(),
            further_pages: FurtherPages::default(),
        }
    }

    /// Returns the counter for the further pages of each list.
    pub(super) fn further_pages(&self) -> FurtherPages {
        self.further_pages.clone()
    }

    /// Delays the next lists by the further pages since the last call. `relays` share the budget.
    pub(super) fn charge_further_pages(&mut self, relays: u32) {
        let pages = self.further_pages.take();
        if pages > 0 {
            let from = self.next_at.max(Instant::now());
            self.next_at = from + self.spacing_of(relays).saturating_mul(pages);
        }
    }

    /// Returns how many lists this relay may begin. `relays` share the budget.
    pub(super) fn allowance(&self, relays: u32) -> ListAllowance {
        let wait = self.next_at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return ListAllowance::After(wait);
        }
        let spacing = self.spacing_of(relays);
        let burst = BURST.as_nanos() / spacing.as_nanos().max(1);
        let burst = usize::try_from(burst).unwrap_or(usize::MAX);
        ListAllowance::Now(burst.saturating_add(1))
    }

    /// Records that lists begin now.
    pub(super) fn record_start(&mut self, lists: usize, relays: u32) {
        let lists = u32::try_from(lists).unwrap_or(u32::MAX);
        self.next_at = Instant::now() + self.spacing_of(relays).saturating_mul(lists);
    }

    fn spacing_of(&self, relays: u32) -> Duration {
        self.spacing.saturating_mul(relays.max(1))
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    /// Reads lists that all have the same number of pages, and take the same time for each page.
    #[derive(Clone)]
    struct Reader {
        pages: u32,
        page_time: Duration,
        most_in_flight: usize,
        requested: FurtherPages,
    }

    impl Reader {
        /// Begins lists whenever the pace allows it, for this many seconds. Returns the number of pages requested.
        async fn pages_in(&self, seconds: u64, calls_per_second: u32, relays: u32) -> u32 {
            let (mut pace, mut lists) = (ListPace::new(calls_per_second), JoinSet::new());
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                pace.charge_further_pages(relays);
                let allowance = pace.allowance(relays);
                self.use_allowance(allowance, relays, &mut pace, &mut lists)
                    .await;
            }
            self.requested.take()
        }

        /// Begins as many lists as there is room for. Waits if none may begin, or for one to end if there is no room.
        async fn use_allowance(
            &self,
            allowance: ListAllowance,
            relays: u32,
            pace: &mut ListPace,
            lists: &mut JoinSet<()>,
        ) {
            let count = match allowance {
                ListAllowance::After(wait) => return tokio::time::sleep(wait).await,
                ListAllowance::Now(count) => count,
            };
            let mut ended = lists.try_join_next();
            while ended.is_some() {
                ended = lists.try_join_next();
            }
            if lists.len() >= self.most_in_flight {
                lists.join_next().await;
            }
            let count = count.min(self.most_in_flight - lists.len());
            pace.record_start(count, relays);
            for _ in 0..count {
                lists.spawn(self.clone().list(pace.further_pages()));
            }
        }

        async fn list(self, further: FurtherPages) {
            for page in 0..self.pages {
                let is_further = page > 0;
                is_further.then(|| further.count());
                self.requested.count();
                tokio::time::sleep(self.page_time).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_use_a_quarter_of_the_budget_and_relays_divide_it() {
        let reader = Reader {
            pages: 1,
            page_time: Duration::ZERO,
            most_in_flight: usize::MAX,
            requested: FurtherPages::default(),
        };
        for (calls, relays, expected) in [(20, 1, 500), (20, 3, 166), (1, 1, 25), (1000, 1, 25_000)]
        {
            let pages = reader.pages_in(100, calls, relays).await;
            let most = expected + expected / 50 + 3;
            assert!(
                (expected..=most).contains(&pages),
                "{calls} {relays}: {pages}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_of_several_pages_use_no_more_of_the_budget() {
        for (page_millis, most_in_flight) in [(5, 8), (100, 8), (2000, 8), (100, 1)] {
            let reader = Reader {
                pages: 5,
                page_time: Duration::from_millis(page_millis),
                most_in_flight,
                requested: FurtherPages::default(),
            };
            let pages = reader.pages_in(100, 20, 1).await;
            assert!(
                (300..=520).contains(&pages),
                "{page_millis} ms, {most_in_flight} in flight: {pages}"
            );
        }
    }
}
