//! A receiver of callbacks that can record when each arrived.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::{Router, body::Bytes, extract::State, http::StatusCode};
use reqwest::Url;
use tokio::{net::TcpListener, task::JoinSet};

/// The time-out for callbacks to arrive.
const PATIENCE: Duration = Duration::from_mins(1);

/// The time and the body of a callback.
type Arrival = (Instant, Bytes);

/// A receiver that answers at once.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    count: Arc<AtomicUsize>,
    /// The recorded callbacks; `None` if they are only counted.
    noted: Option<Arc<Mutex<Vec<Arrival>>>>,
}

impl Receiver {
    /// Creates a receiver that records callbacks.
    pub(crate) fn noting() -> Self {
        Self {
            noted: Some(Arc::default()),
            ..Self::default()
        }
    }

    pub(crate) async fn serve(&self, tasks: &mut JoinSet<()>) -> Result<Url> {
        self.serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), tasks)
            .await
    }

    pub(crate) async fn serve_at(
        &self,
        address: SocketAddr,
        tasks: &mut JoinSet<()>,
    ) -> Result<Url> {
        let listener = TcpListener::bind(address).await?;
        let url = Url::parse(&format!("http://{}/hook", listener.local_addr()?))?;
        let router = Router::new().fallback(receive).with_state(self.clone());
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                drop(crate::figures::say(&format!("a receiver ended: {error}")));
            }
        });
        Ok(url)
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the callbacks recorded so far.
    pub(crate) fn noted(&self) -> Vec<Arrival> {
        let noted = self.noted.as_ref().map(|noted| lock(noted).clone());
        noted.unwrap_or_default()
    }

    /// Waits until `count` callbacks have arrived.
    pub(crate) async fn until(&self, count: usize) -> Result<()> {
        let began = Instant::now();
        while self.count() < count {
            ensure!(
                began.elapsed() < PATIENCE,
                "{} of {count} callbacks came",
                self.count()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn receive(State(receiver): State<Receiver>, body: Bytes) -> StatusCode {
    if let Some(noted) = &receiver.noted {
        lock(noted).push((Instant::now(), body));
    }
    receiver.count.fetch_add(1, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) async fn bind() -> Result<(TcpListener, Url)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr().context("no address")?;
    Ok((listener, Url::parse(&format!("http://{address}"))?))
}
