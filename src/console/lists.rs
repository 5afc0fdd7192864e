//! What the lists of the console share: tabs, and how far a page looked for what passes a filter.

use crate::console::{
    scan::Scanned,
    view::{PageClock, ShownTime},
};

/// A tab that leads to one list.
pub(super) struct Tab {
    pub(super) name: &'static str,
    pub(super) address: String,
    pub(super) is_current: bool,
}

/// How far a page looked for what passes a filter.
pub(super) struct ScanProgress {
    pub(super) count: usize,
    pub(super) back_to: ShownTime,
    /// The address of the page that looks further.
    pub(super) further: String,
}

impl ScanProgress {
    /// Describes a scan that ended before the list and before the page was full. `further` is the address that goes on.
    pub(super) fn of<T, P>(
        scanned: &Scanned<T, P>,
        page: usize,
        further: impl Fn(&P) -> String,
        clock: PageClock,
    ) -> Option<Self> {
        let rest = scanned.rest.as_ref()?;
        (scanned.found.len() < page).then_some(Self {
            count: scanned.looked_at,
            back_to: clock.when(scanned.back_to?),
            further: further(rest),
        })
    }
}
