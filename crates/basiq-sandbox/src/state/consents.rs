//! Consents: given with the first connection, and what their end does to connections.

use jiff::Timestamp;

use crate::{
    agenda::AgendaItem,
    bank::ConnectionMethod,
    consent::{ConsentChange, SandboxConsent},
    error::ApiError,
    event::{EventSubject, SandboxEventType},
    life::scaled,
    state::{SandboxState, new_id},
};

impl SandboxState {
    /// Gives a user's consent, unless the user has one that is active. The user must exist.
    pub(super) fn consent(&mut self, user_id: &str, now: Timestamp) {
        let has_one = self.latest_consent(user_id);
        if has_one.is_some_and(SandboxConsent::is_active) {
            return;
        }
        let lasts = scaled(self.rules.consent_lasts, self.rules.speed);
        let consent = SandboxConsent::new(new_id(), user_id.to_owned(), now, lasts);
        let id = consent.id.clone();
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        user.consents.push(id.clone());
        self.consents.keep(id.clone(), consent);
        self.emit_consent(SandboxEventType::ConsentCreated, user_id, &id, now);
        self.plan_consent(&id);
    }

    /// Renews the consent of a user who goes through the consent flow again, or gives a new one.
    pub(crate) fn consent_again(&mut self, user_id: &str, now: Timestamp) {
        let latest = self.latest_consent(user_id).map(|c| c.id.clone());
        let is_renewed =
            latest.is_some_and(|id| self.change_consent(&id, ConsentChange::Updated, now));
        if !is_renewed {
            self.consent(user_id, now);
        }
    }

    /// Returns whether the bank may be read: a user's latest consent is active.
    pub(crate) fn has_consent(&self, user_id: &str) -> bool {
        self.latest_consent(user_id)
            .is_some_and(SandboxConsent::is_active)
    }

    /// Returns a user's latest consent.
    pub(crate) fn latest_consent(&self, user_id: &str) -> Option<&SandboxConsent> {
        let user = self.users.get(user_id)?;
        self.consents.get(user.consents.last()?)
    }

    /// Returns a user's consents, newest first.
    pub(crate) fn consents_of(&self, user_id: &str) -> Result<Vec<&SandboxConsent>, ApiError> {
        let ids = self.user(user_id)?.consents.iter().rev();
        Ok(ids.filter_map(|id| self.consents.get(id)).collect())
    }

    /// Makes the change that is due for a consent at `at`.
    pub(super) fn age_consent(&mut self, id: &str, at: Timestamp) {
        let next = self.consents.get(id).and_then(SandboxConsent::next);
        if let Some((_, change)) = next.filter(|(due, _)| *due <= at) {
            self.change_consent(id, change, at);
        }
    }

    /// Changes a consent and reports it. Returns false if the consent is unknown or cannot change in this way.
    pub(crate) fn change_consent(
        &mut self,
        id: &str,
        change: ConsentChange,
        at: Timestamp,
    ) -> bool {
        let Some(consent) = self.consents.get_mut(id) else {
            return false;
        };
        if !consent.apply(change, at) {
            return false;
        }
        let user_id = consent.user_id.clone();
        let is_over = !consent.is_active();
        self.emit_consent(change.event_type(), &user_id, id, at);
        if is_over {
            self.end_access(&user_id, change, at);
        }
        self.plan_consent(id);
        true
    }

    fn emit_consent(&mut self, event: SandboxEventType, user_id: &str, id: &str, at: Timestamp) {
        let subject = EventSubject {
            consent: Some(id.to_owned()),
            ..EventSubject::user(user_id)
        };
        self.emit(event, &subject, at);
    }

    fn plan_consent(&mut self, id: &str) {
        let next = self.consents.get(id).and_then(SandboxConsent::next);
        if let Some((at, _)) = next {
            self.agenda.add(at, AgendaItem::Consent(id.to_owned()));
        }
    }

    /// Deletes the data of a user whose consent is over. Open banking connections that worked become invalid, which
    /// Basiq reports this only if the consent expired.
    fn end_access(&mut self, user_id: &str, change: ConsentChange, at: Timestamp) {
        let Some(user) = self.users.get(user_id) else {
            return;
        };
        let sources = self.sources_of(user).into_iter();
        let ended: Vec<_> = sources
            .filter(|connection| self.running(connection, at).is_none())
            .map(|connection| (connection.id.clone(), self.gained(connection, at).status))
            .collect();
        for (id, status) in ended {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let is_cut = connection.method == ConnectionMethod::OpenBanking && status == "active";
            connection.latest_job = None;
            connection.before.accounts = false;
            connection.before.transactions = false;
            connection.before.status = if is_cut { "invalid" } else { status };
            connection.told_status = connection.before.status;
            let is_told = is_cut && !connection.is_deleted && change == ConsentChange::Expired;
            if is_told {
                let subject = EventSubject::connection(user_id, &id);
                self.emit(SandboxEventType::ConnectionInvalidated, &subject, at);
            }
        }
    }
}
