//! The people of a Basiq: the lists of their jobs. Basiq refreshes each person's connections once a day.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::figures::float;

/// The jobs of the last seven days: a daily refresh of two connections.
const OLD_JOBS: i64 = 14;

/// People whose refreshes are spread evenly over a day. The day is shorter than a real one.
#[derive(Clone)]
pub(crate) struct People {
    pub(crate) count: usize,
    pub(crate) day: Duration,
    began: Arc<OnceLock<(Instant, Timestamp)>>,
    lists: Arc<AtomicUsize>,
}

impl People {
    pub(crate) fn new(count: usize, day: Duration) -> Self {
        Self {
            count,
            day,
            began: Arc::default(),
            lists: Arc::default(),
        }
    }

    /// Begins the day. There are no refreshes before.
    pub(crate) fn begin(&self, now: Timestamp) {
        self.began.get_or_init(|| (Instant::now(), now));
    }

    /// Returns how many lists were asked for.
    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::Relaxed)
    }

    /// Returns how long after the begin of the day a person's refresh ends.
    pub(crate) fn refreshed_after(&self, person: usize) -> Duration {
        // A step that has no factor in common with the number of people visits each place of the day once.
        let place = person.wrapping_mul(7919) % self.count;
        self.day.mul_f64(float(place) / float(self.count))
    }

    /// Returns when a person's refresh ended, if it has.
    pub(crate) fn refreshed_at(&self, person: usize) -> Option<Instant> {
        let (began, _) = self.began.get()?;
        let at = *began + self.refreshed_after(person);
        (at <= Instant::now()).then_some(at)
    }

    /// Returns the list of a person's jobs, about 20 kB of JSON.
    pub(crate) fn list(&self, person: usize) -> Value {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let now = self
            .began
            .get()
            .map_or(Timestamp::UNIX_EPOCH, |(_, at)| *at);
        let old = (0..OLD_JOBS).map(|n| {
            let at = now - SignedDuration::from_hours(12 * (n + 1));
            document(&format!("old-{person}-{n}"), person, at)
        });
        let new = self
            .refreshed_at(person)
            .map(|at| document(&refresh_of(person), person, now + since(self, at)));
        json!({ "type": "list", "data": new.into_iter().chain(old).collect::<Vec<_>>() })
    }
}

/// Returns the id of the job that refreshes a person.
pub(crate) fn refresh_of(person: usize) -> String {
    format!("refresh-{person}")
}

fn since(people: &People, at: Instant) -> SignedDuration {
    let began = people.began.get().map_or(at, |(began, _)| *began);
    SignedDuration::try_from(at - began).unwrap_or_default()
}

/// Returns the document of a job that has ended.
fn document(id: &str, person: usize, at: Timestamp) -> Value {
    let source = format!("/users/{person}/connections/c-{person}");
    let step = |title: &str| {
        let url = format!("https://au-api.basiq.io{source}/accounts");
        json!({
            "title": title, "status": "success", "created": at, "updated": at,
            "result": { "type": "link", "url": url },
        })
    };
    json!({
        "type": "job", "id": id, "created": at, "updated": at, "jobType": "refresh",
        "institution": { "type": "institution", "id": "AU00000" },
        "steps": [step("verify-credentials"), step("retrieve-accounts"), step("retrieve-transactions"),
            step("retrieve-statements"), step("retrieve-identity")],
        "links": {
            "self": format!("https://au-api.basiq.io/jobs/{id}"),
            "source": format!("https://au-api.basiq.io{source}"),
        },
    })
}
