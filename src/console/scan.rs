//! Walks through a list with a filter, a bounded number of rows at a time.
//!
//! The stores have indexes by state, by client and by time, and none by each part of a filter. So a filtered list reads
//! the list's rows in their order and keeps those that pass. It stops after a page, or after a number of rows. The page
//! then says how far it looked, and leads to the rest.

use std::future::Future;

use jiff::Timestamp;
use relay_domain::{DeliveryId, DeliveryState, WatchId, WatchState};
use relay_store::{
    DeliveryEntry, DeliveryQuery, Store, StoreError, WatchDetails, WatchQuery, WatchSearch,
};

use crate::console::filter::{ConsoleFilter, FilterOwner};

/// The maximum number of rows that one page looks at.
pub(super) const MOST_LOOKED_AT: usize = 2_000;

/// The maximum number of rows that are read at once.
const CHUNK: usize = 500;

/// A position in a list of deliveries: the latest change and the id of a delivery.
pub(super) type DeliveryPosition = (Timestamp, DeliveryId);

/// Writes a position as part of an address.
pub(super) fn write_position((at, id): DeliveryPosition) -> String {
    format!("{}.{id}", at.as_millisecond())
}

/// Reads a position that [`write_position`] wrote.
pub(super) fn parse_position(text: &str) -> Option<DeliveryPosition> {
    let (millis, id) = text.split_once('.')?;
    let at = Timestamp::from_millisecond(millis.parse().ok()?).ok()?;
    Some((at, id.parse().ok()?))
}

/// When a search in a list stops: after how many rows found, or looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanLimits {
    /// The maximum number of rows to find.
    pub(super) wanted: usize,
    /// The maximum number of rows to look at.
    pub(super) looked_at: usize,
}

/// The rows that a search in a list found, and where the next search continues.
pub(super) struct Scanned<T, P> {
    pub(super) found: Vec<T>,
    /// The number of rows that were looked at.
    pub(super) looked_at: usize,
    /// The position after which the list goes on. None if it was read to its end.
    pub(super) rest: Option<P>,
    /// When the last row that was looked at changed, or was registered.
    pub(super) back_to: Option<Timestamp>,
}

/// What a row is to a filter.
enum FilterMatch {
    Passes,
    Fails,
    /// Neither this row passes nor any after it.
    End,
}

/// A list that can be walked through.
trait ScanSource: Sync {
    type Row: Send;
    type Position: Copy + Send;

    /// Returns the rows after a position.
    fn page(
        &self,
        after: Option<Self::Position>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    fn position(&self, row: &Self::Row) -> (Self::Position, Timestamp);

    fn judge(&self, row: &Self::Row) -> FilterMatch;
}

async fn scan<S: ScanSource>(
    source: &S,
    mut after: Option<S::Position>,
    limits: ScanLimits,
) -> Result<Scanned<S::Row, S::Position>, StoreError> {
    let mut scanned = Scanned {
        found: Vec::new(),
        looked_at: 0,
        rest: None,
        back_to: None,
    };
    loop {
        let limit = CHUNK.min(limits.looked_at - scanned.looked_at);
        if limit == 0 {
            scanned.rest = after;
            return Ok(scanned);
        }
        let rows = source.page(after, limit).await?;
        let (count, is_last) = (rows.len(), rows.len() < limit);
        for (index, row) in rows.into_iter().enumerate() {
            let verdict = source.judge(&row);
            if matches!(verdict, FilterMatch::End) {
                return Ok(scanned);
            }
            let (position, at) = source.position(&row);
            after = Some(position);
            scanned.looked_at += 1;
            scanned.back_to = Some(at);
            if matches!(verdict, FilterMatch::Passes) {
                scanned.found.push(row);
            }
            if scanned.found.len() == limits.wanted {
                let has_more = index + 1 < count || !is_last;
                scanned.rest = after.filter(|_| has_more);
                return Ok(scanned);
            }
        }
        if is_last {
            return Ok(scanned);
        }
    }
}

/// The deliveries of one state that pass a filter.
pub(super) struct DeliveryScan<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) state: DeliveryState,
    pub(super) filter: &'a ConsoleFilter,
    pub(super) owner: FilterOwner,
    /// The last delivery to look at, if the list is not to be read to its end.
    pub(super) last: Option<DeliveryPosition>,
}

impl DeliveryScan<'_> {
    /// Finds deliveries after a position in the list.
    pub(super) async fn run(
        &self,
        after: Option<DeliveryPosition>,
        limits: ScanLimits,
    ) -> Result<Scanned<DeliveryEntry, DeliveryPosition>, StoreError> {
        let first = self.filter.until.filter(|_| self.is_by_change());
        let first = first.map(|until| (until, DeliveryId::from([0; 16])));
        let after = match (after, first) {
            (Some(after), Some(first)) => Some(after.min(first)),
            (after, first) => after.or(first),
        };
        scan(self, after, limits).await
    }

    /// Whether the list is sorted by the latest change. Others are sorted by their watch or subscription.
    fn is_by_change(&self) -> bool {
        match self.state {
            DeliveryState::Pending | DeliveryState::Delivered => false,
            DeliveryState::Dead
            | DeliveryState::Expired
            | DeliveryState::Superseded
            | DeliveryState::Cancelled => true,
        }
    }
}

impl ScanSource for DeliveryScan<'_> {
    type Row = DeliveryEntry;
    type Position = DeliveryPosition;

    async fn page(
        &self,
        after: Option<DeliveryPosition>,
        limit: usize,
    ) -> Result<Vec<DeliveryEntry>, StoreError> {
        let owner = match self.owner {
            FilterOwner::Anyone => None,
            FilterOwner::Client(client) => Some(client),
            FilterOwner::Nobody => return Ok(Vec::new()),
        };
        let query = DeliveryQuery {
            owner,
            state: self.state,
            after,
            limit,
        };
        self.store.list_deliveries(&query).await
    }

    fn position(&self, row: &DeliveryEntry) -> (DeliveryPosition, Timestamp) {
        ((row.updated_at, row.delivery.id), row.updated_at)
    }

    fn judge(&self, row: &DeliveryEntry) -> FilterMatch {
        let (position, at) = self.position(row);
        let too_old = self.filter.from.is_some_and(|from| at < from);
        let is_beyond = self.last.is_some_and(|last| position < last);
        if self.is_by_change() && (too_old || is_beyond) {
            FilterMatch::End
        } else if self.filter.passes_delivery(row) {
            FilterMatch::Passes
        } else {
            FilterMatch::Fails
        }
    }
}

/// The watches that pass a filter, newest first.
pub(super) struct WatchScan<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) state: Option<WatchState>,
    pub(super) filter: &'a ConsoleFilter,
    pub(super) owner: FilterOwner,
}

impl WatchScan<'_> {
    /// Finds watches that are older than `before`.
    pub(super) async fn run(
        &self,
        before: Option<WatchId>,
        limits: ScanLimits,
    ) -> Result<Scanned<WatchDetails, WatchId>, StoreError> {
        let first = self.filter.until.map(WatchId::first_of);
        let before = match (before, first) {
            (Some(before), Some(first)) => Some(before.min(first)),
            (before, first) => before.or(first),
        };
        scan(self, before, limits).await
    }
}

impl ScanSource for WatchScan<'_> {
    type Row = WatchDetails;
    type Position = WatchId;

    async fn page(
        &self,
        before: Option<WatchId>,
        limit: usize,
    ) -> Result<Vec<WatchDetails>, StoreError> {
        let owner = match self.owner {
            FilterOwner::Anyone => None,
            FilterOwner::Client(client) => Some(client),
            FilterOwner::Nobody => return Ok(Vec::new()),
        };
        // hosts have an index of their own
        if let (Some(host), None) = (self.filter.host(), owner) {
            let search = WatchSearch {
                text: host.to_owned(),
                before,
                limit,
            };
            return self.store.search_watches(&search).await;
        }
        let query = WatchQuery {
            owner,
            state: self.state,
            before,
            limit,
            ..WatchQuery::default()
        };
        self.store.list_watches(&query).await
    }

    fn position(&self, row: &WatchDetails) -> (WatchId, Timestamp) {
        (row.watch.id, row.watch.created_at)
    }

    fn judge(&self, row: &WatchDetails) -> FilterMatch {
        let is_too_old = |from| row.watch.id < WatchId::first_of(from);
        if self.filter.from.is_some_and(is_too_old) {
            return FilterMatch::End;
        }
        let is_state = self.state.is_none_or(|state| row.watch.state == state);
        if is_state && self.filter.passes_watch(row) {
            FilterMatch::Passes
        } else {
            FilterMatch::Fails
        }
    }
}
