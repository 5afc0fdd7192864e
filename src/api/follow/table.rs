//! The followers of each watch, and the watches to read again. No I/O, no async.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use metrics::gauge;
use parking_lot::{Mutex, MutexGuard};
use relay_domain::{ClientId, JobId, WatchId};
use relay_runtime::Subscription;
use relay_store::WatchVersion;
use tokio::sync::watch;

use crate::api::follow::{WatchFollower, snapshot::WatchSnapshot};

/// The maximum number of followers of one watch.
pub(super) const MOST_OF_ONE: usize = 1024;

/// Why a follower is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum FollowRefusal {
    /// The relay is at its limit of followers.
    Full,
    /// The watch is at its limit of followers.
    Crowded,
    /// The relay stops.
    Closed,
}

/// The watches that have followers. All clones share one state.
#[derive(Debug, Clone)]
pub(super) struct FollowTable(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    watches: HashMap<WatchId, Row>,
    /// The number of all followers.
    followers: usize,
    /// The number of rows created so far. It distinguishes a row from an earlier row of the same watch.
    begun: u64,
    /// The maximum number of followers, in streams and in calls that wait.
    most: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Row {
    number: u64,
    followers: usize,
    sender: watch::Sender<Arc<WatchSnapshot>>,
    /// The version at the latest read, or an earlier one.
    version: Option<WatchVersion>,
    is_stale: bool,
    following: Subscription<JobId>,
}

impl Rows {
    fn check_room(&self, of_one: usize) -> Result<(), FollowRefusal> {
        if self.is_closed {
            return Err(FollowRefusal::Closed);
        }
        if self.followers >= self.most {
            return Err(FollowRefusal::Full);
        }
        if of_one >= MOST_OF_ONE {
            return Err(FollowRefusal::Crowded);
        }
        Ok(())
    }

    fn count(&mut self, followers: usize) {
        self.followers = followers;
        let followers = u32::try_from(followers).unwrap_or(u32::MAX);
        gauge!("relay_streams").set(f64::from(followers));
    }

    /// Adds a follower to a watch that already has followers.
    fn join(&mut self, owner: ClientId, id: WatchId) -> Result<Found, FollowRefusal> {
        let of_one = self.watches.get(&id).map_or(0, |row| row.followers);
        self.check_room(of_one)?;
        let Some(row) = self.watches.get_mut(&id) else {
            return Ok(Found::Nobody);
        };
        if row.sender.borrow().story.watch.client_id != owner {
            return Ok(Found::NotTheirs);
        }
        row.followers += 1;
        let joined = Found::Row(row.sender.subscribe(), row.number);
        self.count(self.followers + 1);
        Ok(joined)
    }
}

/// The row of a watch, with one more follower.
enum Found {
    Nobody,
    NotTheirs,
    Row(watch::Receiver<Arc<WatchSnapshot>>, u64),
}

/// The result of joining the followers of a watch.
#[derive(Debug)]
pub(super) enum JoinOutcome {
    /// The watch has no followers yet.
    First,
    /// The watch belongs to another client.
    NotTheirs,
    /// The watch has other followers, and one was added.
    More(WatchFollower),
}

impl FollowTable {
    /// Creates a table without followers, for at most `most` followers.
    pub(super) fn new(most: usize) -> Self {
        let rows = Rows {
            most,
            ..Rows::default()
        };
        Self(Arc::new(Mutex::new(rows)))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock()
    }

    /// Follows a client's watch if the watch already has followers.
    pub(super) fn join(&self, owner: ClientId, id: WatchId) -> Result<JoinOutcome, FollowRefusal> {
        Ok(match self.rows().join(owner, id)? {
            Found::Nobody => JoinOutcome::First,
            Found::NotTheirs => JoinOutcome::NotTheirs,
            Found::Row(receiver, number) => JoinOutcome::More(self.follower(id, number, receiver)),
        })
    }

    /// Follows a client's watch that was just read, and marks it to be read again.
    pub(super) fn begin(
        &self,
        snapshot: Arc<WatchSnapshot>,
        following: Subscription<JobId>,
    ) -> Result<WatchFollower, FollowRefusal> {
        let (owner, id) = (snapshot.story.watch.client_id, snapshot.story.watch.id);
        let mut rows = self.rows();
        // another follower may have come first
        if let Found::Row(receiver, number) = rows.join(owner, id)? {
            return Ok(self.follower(id, number, receiver));
        }
        let (sender, receiver) = watch::channel(snapshot);
        rows.begun += 1;
        let number = rows.begun;
        let row = Row {
            number,
            followers: 1,
            sender,
            version: None,
            is_stale: true,
            following,
        };
        rows.watches.insert(id, row);
        let all = rows.followers + 1;
        rows.count(all);
        Ok(self.follower(id, number, receiver))
    }

    fn follower(
        &self,
        id: WatchId,
        number: u64,
        receiver: watch::Receiver<Arc<WatchSnapshot>>,
    ) -> WatchFollower {
        let place = FollowPermit {
            table: self.clone(),
            id,
            number,
        };
        WatchFollower {
            receiver,
            _place: place,
        }
    }

    /// Marks a watch to be read again. Returns false if the watch has no followers.
    pub(super) fn touch(&self, id: WatchId) -> bool {
        let mut rows = self.rows();
        let row = rows.watches.get_mut(&id);
        row.map(|row| row.is_stale = true).is_some()
    }

    /// Marks the watches of these jobs to be read again.
    pub(super) fn touch_jobs(&self, jobs: &HashSet<JobId>) {
        if jobs.is_empty() {
            return;
        }
        for row in self.rows().watches.values_mut() {
            row.is_stale |= jobs.contains(row.following.key());
        }
    }

    /// Marks watches to be read again, for example after a failed read.
    pub(super) fn touch_all(&self, ids: &[WatchId]) {
        for id in ids {
            self.touch(*id);
        }
    }

    /// Takes at most `limit` watches that are to be read, and clears their marks.
    pub(super) fn take_stale(&self, limit: usize) -> Vec<WatchId> {
        let mut rows = self.rows();
        let stale = rows.watches.iter_mut().filter(|(_, row)| row.is_stale);
        let taken = stale.take(limit).map(|(id, row)| {
            row.is_stale = false;
            *id
        });
        taken.collect()
    }

    /// Returns all watches that have followers.
    pub(super) fn ids(&self) -> Vec<WatchId> {
        self.rows().watches.keys().copied().collect()
    }

    /// Returns the asked watches whose version differs from the one last read. A watch without a version no longer
    /// exists, so its followers end.
    pub(super) fn changed(
        &self,
        asked: &[WatchId],
        versions: &HashMap<WatchId, WatchVersion>,
    ) -> Vec<WatchId> {
        let mut rows = self.rows();
        for id in asked.iter().filter(|id| !versions.contains_key(id)) {
            rows.watches.remove(id);
        }
        let is_other = |id: &WatchId| {
            let row = rows.watches.get(id);
            row.is_some_and(|row| row.version.as_ref() != versions.get(id))
        };
        asked.iter().copied().filter(is_other).collect()
    }

    /// Sends a watch to all its followers.
    pub(super) fn publish(&self, snapshot: WatchSnapshot, version: Option<WatchVersion>) {
        if let Some(row) = self.rows().watches.get_mut(&snapshot.story.watch.id) {
            row.version = version;
            row.sender.send_replace(Arc::new(snapshot));
        }
    }

    /// Ends all followers of a watch.
    pub(super) fn end(&self, id: WatchId) {
        self.rows().watches.remove(&id);
    }

    /// Ends all followers. Further followers are rejected.
    pub(super) fn close(&self) {
        let mut rows = self.rows();
        rows.is_closed = true;
        rows.watches.clear();
    }
}

/// The permit of one follower. Dropping it removes the follower.
#[derive(Debug)]
pub(super) struct FollowPermit {
    table: FollowTable,
    id: WatchId,
    number: u64,
}

impl Drop for FollowPermit {
    fn drop(&mut self) {
        let mut rows = self.table.rows();
        let all = rows.followers.saturating_sub(1);
        rows.count(all);
        let row = rows.watches.get_mut(&self.id);
        let left = row.filter(|row| row.number == self.number).map(|row| {
            row.followers = row.followers.saturating_sub(1);
            row.followers
        });
        if left == Some(0) {
            rows.watches.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use relay_domain::{CallbackRules, CallbackUrl, JobMemory, Watch, WatchOptions, WatchRequest};
    use relay_runtime::SubscriptionTable;
    use relay_store::WatchDetails;

    use super::*;

    const OWNER: ClientId = ClientId(1);

    fn snapshot(id: WatchId) -> Arc<WatchSnapshot> {
        let callback = CallbackUrl::parse("https://app.example/", &CallbackRules::default());
        let request = WatchRequest {
            job_id: "j1".parse().unwrap(),
            callback_url: callback.unwrap(),
            options: WatchOptions::default(),
        };
        let story = WatchDetails {
            watch: Watch::begun(id, OWNER, request, Timestamp::UNIX_EPOCH),
            job: JobMemory::default(),
            next_look_at: None,
            events: Vec::new(),
        };
        Arc::new(WatchSnapshot::new(story, None))
    }

    fn begin(table: &FollowTable, id: WatchId) -> Result<WatchFollower, FollowRefusal> {
        let following = SubscriptionTable::new().follow("j1".parse().unwrap());
        table.begin(snapshot(id), following)
    }

    fn id() -> WatchId {
        WatchId::new(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_watch_is_kept_while_somebody_follows_it_and_only_its_owner_may() {
        let (table, one) = (FollowTable::new(3072), id());
        let join = |owner| table.join(owner, one).unwrap();
        assert!(matches!(join(OWNER), JoinOutcome::First));
        let first = begin(&table, one).unwrap();
        let second = join(OWNER);
        assert!(matches!(second, JoinOutcome::More(_)));
        assert!(matches!(join(ClientId(2)), JoinOutcome::NotTheirs));
        let third = begin(&table, one).unwrap();
        drop((first, second));
        assert_eq!(table.ids(), [one]);
        drop(third);
        assert!(table.ids().is_empty());
        assert_eq!(table.rows().followers, 0);
    }

    #[test]
    fn neither_one_watch_nor_all_together_are_followed_by_more_than_may() {
        let (table, one) = (FollowTable::new(3072), id());
        let mut all: Vec<_> = (0..MOST_OF_ONE).map(|_| begin(&table, one)).collect();
        assert_eq!(begin(&table, one).unwrap_err(), FollowRefusal::Crowded);
        all.extend((MOST_OF_ONE..3072).map(|_| begin(&table, id())));
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(begin(&table, id()).unwrap_err(), FollowRefusal::Full);
        all.pop();
        assert!(begin(&table, id()).is_ok());
    }

    #[test]
    fn what_is_to_be_read_is_taken_once_and_what_is_gone_is_ended() {
        let table = FollowTable::new(3072);
        let (one, two) = (id(), id());
        let (mut first, _second) = (begin(&table, one).unwrap(), begin(&table, two).unwrap());
        assert_eq!(table.take_stale(1).len(), 1);
        assert_eq!(table.take_stale(9).len(), 1);
        assert!(table.take_stale(9).is_empty());
        table.touch_jobs(&["j1".parse().unwrap()].into());
        assert_eq!(table.take_stale(9).len(), 2);
        assert!(table.touch(two) && !table.touch(id()));
        assert_eq!(table.take_stale(9), [two]);
        assert!(table.changed(&[one], &HashMap::new()).is_empty());
        assert_eq!(table.ids(), [two]);
        assert!(first.receiver.has_changed().is_err(), "it is told");
        first.latest();
    }

    #[test]
    fn once_closed_all_are_told_and_nobody_may_follow() {
        let (table, one) = (FollowTable::new(3072), id());
        let follower = begin(&table, one).unwrap();
        table.close();
        assert!(follower.receiver.has_changed().is_err());
        assert_eq!(begin(&table, one).unwrap_err(), FollowRefusal::Closed);
        drop(follower);
        assert_eq!(table.rows().followers, 0);
    }
}
