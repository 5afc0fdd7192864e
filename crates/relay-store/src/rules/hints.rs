//! Finds out which jobs a hint is about, and which subscriptions it ends.

use std::time::Duration;

use relay_domain::SubscriptionId;

use crate::{Hint, HintSubject};

/// The maximum number of jobs that one hint makes due. A connection has one or two jobs, a user a few.
pub(crate) const MOST_HINTED_JOBS: usize = 500;

/// The minimum time for which hints are remembered. Basiq sends a hint again for up to 28 hours.
pub(crate) const HINTS_REMEMBERED_FOR: Duration = Duration::from_hours(48);

/// The minimum time between two lists of a person's jobs that follow from hints. Basiq sends several webhooks in a row,
/// one for each account that changed.
pub(crate) const LIST_INTERVAL: Duration = Duration::from_secs(10);

/// Returns the key under which a fact of Basiq's is remembered among the hints.
pub(crate) fn fact_key(fact: &str) -> String {
    format!("fact {fact}")
}

/// Returns the subscriptions that a hint ends.
pub(crate) fn ended_by(hint: &Hint) -> &[SubscriptionId] {
    match &hint.removed_user {
        Some(removed) => &removed.subscriptions,
        None => &[],
    }
}

/// The statements that find watched jobs by an id of Basiq's.
pub(crate) struct JobsOf {
    pub(crate) connection: &'static str,
    pub(crate) user: &'static str,
    /// Finds only jobs of the user that name no connection.
    pub(crate) user_alone: &'static str,
}

impl JobsOf {
    /// Returns the statements that find the jobs of this subject, each with the id that it takes.
    pub(crate) fn lookups<'h>(&self, subject: &'h HintSubject) -> Vec<(&'static str, &'h str)> {
        match subject {
            HintSubject::User(user_id) => vec![(self.user, user_id)],
            HintSubject::Connection {
                connection_id,
                user_id,
            } => {
                let mut lookups = vec![(self.connection, &**connection_id)];
                let user_id = user_id.as_deref();
                lookups.extend(user_id.map(|user_id| (self.user_alone, user_id)));
                lookups
            }
        }
    }
}
