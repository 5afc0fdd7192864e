//! Loads values for many callers at once, and no value twice. Nothing is cached, so a key that was revoked before a
//! request came is not found by it.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
};

use async_trait::async_trait;

use crate::{
    StoreError,
    batch::batcher::{BatchWork, Callers, EachResult},
    error::closed,
};

/// Finds the values of many keys in one query. [`BatchLoader`] runs it.
#[async_trait]
pub(crate) trait LoadBatch: Send + Sync + 'static {
    /// The key. No query has the same key twice.
    type Key: Debug + Clone + Eq + Hash + Send + Sync + 'static;
    /// The value.
    type Found: Debug + Clone + Send + Sync + 'static;

    /// Returns the value of each of these keys, in their order.
    async fn find_all(&self, keys: &[Self::Key]) -> Result<EachResult<Self::Found>, StoreError>;
}

/// The work of a batcher whose inputs are keys: finds the value of each distinct key by a [`LoadBatch`].
pub(crate) struct BatchLoader<L>(pub(crate) L);

impl<L: LoadBatch> BatchWork for BatchLoader<L> {
    type Input = L::Key;
    type Output = L::Found;

    const MAX_INPUTS: usize = 1024;

    async fn run(
        &self,
        keys: Vec<L::Key>,
        callers: &mut Callers<L::Found>,
    ) -> Result<(), StoreError> {
        let distinct: HashSet<_> = keys.iter().collect();
        let distinct: Vec<_> = distinct.into_iter().cloned().collect();
        let found = self.0.find_all(&distinct).await?;
        let found: HashMap<_, _> = distinct.iter().zip(found).collect();
        for key in &keys {
            let found = found.get(key).cloned();
            callers.answer_next(found.unwrap_or_else(|| Err(closed())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use relay_domain::Fleet;
    use tokio::{
        sync::mpsc::{self, UnboundedSender},
        time::Instant,
    };

    use super::*;
    use crate::batch::Batcher;

    /// Finds twice a number, and fails for thirteen. Reports the keys of each lookup.
    struct Doubles(UnboundedSender<Vec<u32>>);

    #[async_trait]
    impl LoadBatch for Doubles {
        type Key = u32;
        type Found = u32;

        async fn find_all(&self, keys: &[u32]) -> Result<EachResult<u32>, StoreError> {
            let mut sorted = keys.to_vec();
            sorted.sort_unstable();
            self.0.send(sorted).unwrap();
            tokio::time::sleep(TAKES).await;
            if keys.contains(&0) {
                return Err(StoreError::unavailable("away"));
            }
            let found = keys.iter().map(|key| match key {
                13 => Err(StoreError::unavailable("thirteen")),
                key => Ok(2 * key),
            });
            Ok(found.collect())
        }
    }

    /// How long a lookup takes.
    const TAKES: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn callers_that_wait_share_a_query_and_each_gets_its_own_answer() {
        let (sender, mut queries) = mpsc::unbounded_channel();
        let loader = Batcher::start(BatchLoader(Doubles(sender)), Fleet::alone());
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            join_all([3, 13, 5, 3].map(|key| loader.submit(key))).await
        };
        let (first, later) = tokio::join!(loader.submit(2), waiting);
        assert_eq!(first.unwrap(), 4);
        let later: Vec<_> = later.into_iter().map(Result::ok).collect();
        assert_eq!(later, [Some(6), None, Some(10), Some(6)]);
        drop(loader);
        assert_eq!(queries.recv().await, Some(vec![2]));
        assert_eq!(queries.recv().await, Some(vec![3, 5, 13]));
        assert_eq!(queries.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_fails_fails_all_who_share_it() {
        let (sender, _queries) = mpsc::unbounded_channel();
        let loader = Batcher::start(BatchLoader(Doubles(sender)), Fleet::alone());
        for result in join_all([0, 1].map(|key| loader.submit(key))).await {
            assert!(matches!(result, Err(StoreError::Unavailable(_))));
        }
    }

    /// How long two lookups take, one after the other.
    async fn two_lookups(relays: usize) -> Duration {
        let (sender, _queries) = mpsc::unbounded_channel();
        let fleet = Fleet::alone();
        fleet.set_size(relays);
        let loader = Batcher::start(BatchLoader(Doubles(sender)), fleet);
        let began = Instant::now();
        for key in [1, 2] {
            loader.submit(key).await.unwrap();
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn between_lookups_the_store_is_left_to_the_other_relays() {
        assert_eq!(two_lookups(1).await, 2 * TAKES);
        assert_eq!(two_lookups(3).await, 4 * TAKES);
    }
}
