//! Lists the jobs of a user, page by page and within limits.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use relay_domain::{BasiqId, JobId, JobSnapshot};
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::{
    BasiqConfig, BasiqError,
    client::{BasiqClient, address, read},
    measure::Endpoint,
    normalise,
    wire::JobDocument,
};

/// The maximum number of pages read of one list. Each page has at most 1 MiB, as any response.
const MAX_PAGES: usize = 5;
/// The maximum number of jobs kept of one list. Basiq lists the jobs of seven days, so a person has a few dozen.
const MAX_JOBS: usize = 1000;
/// The maximum length of a link to the next page, in bytes.
const MAX_LINK: usize = 2048;

/// Basiq's response to a request for the jobs of a user.
#[derive(Debug, Clone, PartialEq)]
pub enum UserJobs {
    /// Basiq knows the user.
    Listed(JobList),
    /// Basiq itself reports that it does not know the user. A gateway's 404 is an error instead.
    UnknownUser,
}

/// The jobs of a user, at most seven days old, in Basiq's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobList {
    /// The jobs. Each is listed once.
    pub jobs: Vec<ListedJob>,
    /// Whether the list was read to its end. False if it has more pages or jobs than the client reads.
    pub is_complete: bool,
}

/// A job as Basiq's list of a person's jobs shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedJob {
    /// Basiq's id of the job.
    pub id: JobId,
    /// What the list says about the job: its times, its steps, and the ids of its connection and bank.
    pub snapshot: JobSnapshot,
}

impl BasiqClient {
    /// Lists the jobs of a user: `GET /users/{userId}/jobs`. The list takes at most [`Self::longest_list`].
    ///
    /// An error on any page is an error of the list. A listed job without an id, or with a link to another user, is
    /// left out. Each page costs a call: `before_further_page` is called before each call after the first.
    pub async fn jobs_of_user(
        &self,
        user_id: &BasiqId,
        before_further_page: impl Fn() + Send,
    ) -> Result<UserJobs, BasiqError> {
        let began = Instant::now();
        let first = address(&self.0.base, &["users", user_id.as_str(), "jobs"])?;
        let mut page = match self.page_of_jobs(user_id, first.clone()).await {
            Err(BasiqError::NotFound { .. }) => return Ok(UserJobs::UnknownUser),
            result => result?,
        };
        let mut listed = Listing::new(user_id, self.0.clock.now());
        let mut pages = 1;
        loop {
            listed.add(&page);
            let Some(next) = next_page(&page, &first) else {
                return Ok(UserJobs::Listed(listed.finish(true)));
            };
            let is_late = began.elapsed() >= self.0.longest;
            if pages == MAX_PAGES || listed.is_full() || is_late {
                return Ok(UserJobs::Listed(listed.finish(false)));
            }
            before_further_page();
            page = self.page_of_jobs(user_id, next).await?;
            pages += 1;
        }
    }

    /// Returns the longest time that a list can take. No page is requested after the time of one call. Leases depend
    /// on it.
    #[must_use]
    pub fn longest_list(config: &BasiqConfig) -> Duration {
        Self::longest_call(config).saturating_mul(2)
    }

    async fn page_of_jobs(&self, user_id: &BasiqId, url: Url) -> Result<Value, BasiqError> {
        let read = |json: Value| read::user_jobs(json, user_id);
        self.call(Endpoint::UserJobs, url, read).await
    }
}

/// The jobs of the pages read so far.
struct Listing<'a> {
    user_id: &'a BasiqId,
    now: Timestamp,
    seen: HashSet<JobId>,
    jobs: Vec<ListedJob>,
    /// Whether a job was left out because the list is full.
    has_overflowed: bool,
}

impl<'a> Listing<'a> {
    fn new(user_id: &'a BasiqId, now: Timestamp) -> Self {
        Self {
            user_id,
            now,
            seen: HashSet::new(),
            jobs: Vec::new(),
            has_overflowed: false,
        }
    }

    fn add(&mut self, page: &Value) {
        let entries = page.get("data").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let Some(job) = self.read(entry) else {
                continue;
            };
            if self.seen.contains(&job.id) {
                continue;
            }
            if self.is_full() {
                self.has_overflowed = true;
                return;
            }
            self.seen.insert(job.id.clone());
            self.jobs.push(job);
        }
    }

    fn read(&self, entry: &Value) -> Option<ListedJob> {
        let id = match entry.get("id")? {
            Value::String(id) => id.trim().parse().ok()?,
            Value::Number(id) => id.to_string().parse().ok()?,
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        let snapshot = normalise::read_job(&JobDocument(entry.clone()), self.now);
        let is_ours = |user: &str| user.eq_ignore_ascii_case(self.user_id.as_str());
        if !snapshot.context.user_id.as_deref().is_none_or(is_ours) {
            warn!(
                job.id = %id,
                user.id = %self.user_id,
                "a job in the list of a user links to another user: it is left out"
            );
            return None;
        }
        Some(ListedJob { id, snapshot })
    }

    fn is_full(&self) -> bool {
        self.jobs.len() >= MAX_JOBS
    }

    fn finish(self, is_complete: bool) -> JobList {
        JobList {
            is_complete: is_complete && !self.has_overflowed,
            jobs: self.jobs,
        }
    }
}

/// Returns the URL of the page after this one. Only the query of Basiq's link is used, so that the token goes nowhere
/// else.
fn next_page(page: &Value, first: &Url) -> Option<Url> {
    let link = page.get("links")?.get("next")?.as_str()?.trim();
    if link.is_empty() || link.len() > MAX_LINK {
        return None;
    }
    let target = first.join(link).ok()?;
    let query = target.query().filter(|query| !query.is_empty())?;
    let mut next = first.clone();
    next.set_query(Some(query));
    Some(next)
}
