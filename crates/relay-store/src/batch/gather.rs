//! Gathers requests that can share a transaction, while other relays use the database.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// The smallest batch that may end a wait early. In a batch of this size, a transaction's fixed cost per request is
/// already small.
const ENOUGH: usize = 16;

/// Waits for `pause`, which leaves the database to other relays, and gathers the requests that come meanwhile. Ends with
/// at most `most` requests.
///
/// Ends early once as many wait as in the `last` batch, but at least [`ENOUGH`]. Callers that ask again as soon as
/// they are answered are all there by then.
pub(super) async fn gather<T>(
    queue: &mut mpsc::Receiver<T>,
    waiting: &mut Vec<T>,
    most: usize,
    last: usize,
    pause: Duration,
) {
    if pause.is_zero() {
        return;
    }
    let (until, wanted) = (Instant::now() + pause, last.max(ENOUGH).min(most));
    while waiting.len() < wanted {
        let left = most - waiting.len();
        match timeout_at(until, queue.recv_many(waiting, left)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Takes the waiting requests, at most `most`. Waits until there is at least one. Returns false if the queue is
/// closed.
pub(super) async fn take<T>(
    queue: &mut mpsc::Receiver<T>,
    waiting: &mut Vec<T>,
    most: usize,
) -> bool {
    !waiting.is_empty() || queue.recv_many(waiting, most).await > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(20);

    /// Whether a wait ends early with `there` requests in the queue, after a batch of `last`.
    async fn is_over_sooner(there: usize, last: usize) -> bool {
        let (callers, mut queue) = mpsc::channel(100);
        for caller in 0..there {
            callers.send(caller).await.unwrap();
        }
        let (began, mut waiting) = (Instant::now(), Vec::new());
        gather(&mut queue, &mut waiting, 100, last, PAUSE).await;
        assert_eq!(waiting.len(), there);
        began.elapsed() < PAUSE
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_over_once_enough_wait_or_its_time_is() {
        assert!(!is_over_sooner(1, 0).await, "too few to be enough");
        assert!(!is_over_sooner(15, 1).await, "one short");
        assert!(is_over_sooner(16, 1).await, "more than the last time");
        assert!(!is_over_sooner(16, 17).await, "one is missing");
        assert!(is_over_sooner(40, 30).await, "all and more");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_fit_are_gathered_and_none_without_a_pause() {
        let (callers, mut queue) = mpsc::channel(100);
        for caller in 0..30 {
            callers.try_send(caller).unwrap();
        }
        let mut waiting = Vec::new();
        gather(&mut queue, &mut waiting, 20, 25, Duration::ZERO).await;
        assert_eq!(waiting, [0; 0]);
        gather(&mut queue, &mut waiting, 20, 25, PAUSE).await;
        assert_eq!(waiting.len(), 20);
        drop(callers);
        waiting.clear();
        assert!(take(&mut queue, &mut waiting, 20).await, "ten are left");
        waiting.clear();
        gather(&mut queue, &mut waiting, 20, 25, PAUSE).await;
        assert!(
            !take(&mut queue, &mut waiting, 20).await,
            "nobody comes any more"
        );
    }
}
