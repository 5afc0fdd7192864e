//! Refreshes that Basiq starts by itself. No call returns the ids of their jobs.

use std::time::Duration;

use jiff::Timestamp;
use relay_domain::clock::later;
use tracing::debug;

use crate::{
    agenda::AgendaItem,
    bank::{MfaRule, find_bank},
    life::scaled,
    script::Origin,
    state::{SandboxConnection, SandboxState, StoredJob},
};

/// The minimum time between two refreshes of a connection, however fast the sandbox's clock runs.
const SHORTEST: Duration = Duration::from_millis(50);

impl SandboxState {
    /// Plans the next refresh of a connection whose job ended at `ended`, if it can be refreshed.
    pub(super) fn plan_refresh(&mut self, connection_id: &str, ended: Timestamp) {
        let connection = self.connections.get(connection_id);
        let works = connection.is_some_and(|connection| self.refreshes(connection, ended));
        if let Some(interval) = self.refresh_interval().filter(|_| works) {
            let item = AgendaItem::Refresh(connection_id.to_owned());
            self.agenda.add(later(ended, interval), item);
        }
    }

    /// Refreshes a connection, unless it has had a newer job or can no longer be refreshed.
    pub(super) fn refresh_by_itself(&mut self, connection_id: &str, at: Timestamp) {
        let Some(connection) = self.connections.get(connection_id) else {
            return;
        };
        let latest = connection.latest_job.as_deref();
        let Some(StoredJob::Life(job)) = latest.and_then(|id| self.jobs.get(id)) else {
            return;
        };
        let ended = job.settles_at();
        let due = ended.zip(self.refresh_interval());
        let is_due = due.is_some_and(|(ended, interval)| later(ended, interval) <= at);
        if !is_due || !self.refreshes(connection, at) || !self.has_consent(&connection.user_id) {
            return;
        }
        match self.read_bank(connection_id, Origin::Refresh, None, at) {
            Ok(started) => debug!(
                job.id = started.id,
                connection.id = connection_id,
                "a connection is refreshed by itself"
            ),
            Err(error) => debug!(?error, connection.id = connection_id, "no refresh"),
        }
    }

    /// Returns whether Basiq refreshes the connection by itself: it works, and the bank never asks a challenge, since
    /// nobody is there to answer.
    fn refreshes(&self, connection: &SandboxConnection, now: Timestamp) -> bool {
        let asks = find_bank(&connection.institution_id).is_none_or(|b| b.mfa != MfaRule::Never);
        let is_live = connection.method.is_live() && !connection.is_deleted;
        is_live && !asks && self.gained(connection, now).status == "active"
    }

    fn refresh_interval(&self) -> Option<Duration> {
        let interval = scaled(self.rules.refresh_every?, self.rules.speed);
        Some(interval.max(SHORTEST))
    }
}
