//! Decides which problems begin and which are over. Pure: the facts and the time are arguments.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay_domain::UpstreamHealth;
use relay_store::StoreTroubles;

use crate::{
    alerts::alert::{Alert, AlertKind, AlertState, AlertSubject},
    config::AlertTiming,
};

/// What a relay sees at one moment.
#[derive(Debug, Clone)]
pub struct AlertFacts {
    /// How Basiq answers this relay. None before the first answer.
    pub upstream: Option<UpstreamHealth>,
    /// Whether this relay's circuit breaker is open.
    pub is_breaker_open: bool,
    /// When this relay last wrote to the store.
    pub written_at: Timestamp,
    /// The problems in the store.
    pub shared: SharedFacts,
    /// The problems that operators were told of before this relay began to tell them.
    pub told_before: Vec<(AlertSubject, Timestamp)>,
}

/// What a relay knows of the problems in the store, which all relays see.
#[derive(Debug, Clone)]
pub enum SharedFacts {
    /// Another relay tells them.
    LeftToAnother,
    /// This relay tells them, and has not read the store since the last evaluation. That changes nothing.
    NotRead,
    /// This relay tells them, and has read the store.
    Read(StoreTroubles),
}

/// The problems that have begun and are not over. Each causes one alert at its begin, and one when it is over.
#[derive(Debug)]
pub struct FiringAlerts {
    timing: AlertTiming,
    breaker_open_since: Option<Timestamp>,
    /// Whether it is known how Basiq answers. The breaker of a relay that just started is closed in any case.
    knows_basiq: bool,
    /// When each problem began.
    since: BTreeMap<AlertSubject, Timestamp>,
}

impl FiringAlerts {
    /// Starts without a problem.
    #[must_use]
    pub fn new(timing: AlertTiming) -> Self {
        Self {
            timing,
            breaker_open_since: None,
            knows_basiq: false,
            since: BTreeMap::new(),
        }
    }

    /// Evaluates the facts of this moment. Returns an alert for each problem that begins or is over.
    pub fn update(&mut self, facts: &AlertFacts, now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (subject, since) in &facts.told_before {
            self.since.entry(subject.clone()).or_insert(*since);
        }
        self.update_from_basiq(facts, now, &mut alerts);
        let unwritable = Some(facts.written_at);
        let unwritable =
            unwritable.filter(|since| lasts(*since, now, self.timing.store_unwritable));
        self.set(AlertKind::StoreUnwritable, unwritable, now, &mut alerts);
        match &facts.shared {
            SharedFacts::LeftToAnother => self.since.retain(|subject, _| !subject.kind.is_shared()),
            SharedFacts::NotRead => {}
            SharedFacts::Read(troubles) => self.update_from_store(troubles, now, &mut alerts),
        }
        alerts
    }

    fn update_from_basiq(&mut self, facts: &AlertFacts, now: Timestamp, alerts: &mut Vec<Alert>) {
        // other failures do not show whether Basiq accepts the key
        match facts.upstream {
            Some(UpstreamHealth::KeyRefused) => {
                self.set(AlertKind::KeyRefused, Some(now), now, alerts);
            }
            Some(UpstreamHealth::Ok | UpstreamHealth::Throttled) => {
                self.set(AlertKind::KeyRefused, None, now, alerts);
            }
            Some(UpstreamHealth::Failing) | None => {}
        }
        let is_answering = !matches!(facts.upstream, Some(UpstreamHealth::Failing) | None);
        self.knows_basiq |= is_answering || facts.is_breaker_open;
        self.breaker_open_since = facts
            .is_breaker_open
            .then(|| self.breaker_open_since.unwrap_or(now));
        match self.breaker_open_since {
            Some(since) if lasts(since, now, self.timing.breaker_open) => {
                self.set(AlertKind::BreakerOpen, Some(since), now, alerts);
            }
            None if self.knows_basiq => self.set(AlertKind::BreakerOpen, None, now, alerts),
            Some(_) | None => {}
        }
    }

    fn update_from_store(
        &mut self,
        troubles: &StoreTroubles,
        now: Timestamp,
        alerts: &mut Vec<Alert>,
    ) {
        let dead = troubles.dead_deliveries;
        let before = alerts.len();
        let since = (dead > 0).then_some(now);
        self.set(AlertKind::DeliveriesDead, since, now, alerts);
        for alert in alerts.iter_mut().skip(before) {
            alert.dead = Some(dead);
        }
        let is_paused = |host: &str| troubles.paused_hosts.iter().any(|one| one.host == host);
        let ended = self.since.keys().filter(|subject| {
            let host = subject.host.as_deref();
            host.is_some_and(|host| !is_paused(host))
        });
        for subject in ended.cloned().collect::<Vec<_>>() {
            self.change(subject, None, now, alerts);
        }
        for paused in &troubles.paused_hosts {
            let subject = AlertSubject::paused(paused.host.clone());
            self.change(subject, Some(paused.since), now, alerts);
        }
    }

    fn set(
        &mut self,
        kind: AlertKind,
        since: Option<Timestamp>,
        now: Timestamp,
        alerts: &mut Vec<Alert>,
    ) {
        self.change(AlertSubject::of(kind), since, now, alerts);
        if since.is_none() {
            self.end_of_other_relays(kind, now, alerts);
        }
    }

    /// Ends the problems of a kind that relays told of which are gone.
    fn end_of_other_relays(&mut self, kind: AlertKind, now: Timestamp, alerts: &mut Vec<Alert>) {
        let told = self.since.keys();
        let told = told.filter(|subject| subject.kind == kind && subject.relay.is_some());
        for subject in told.cloned().collect::<Vec<_>>() {
            self.change(subject, None, now, alerts);
        }
    }

    /// Sets since when a problem lasts, or that it does not last. Adds an alert if that is new.
    fn change(
        &mut self,
        subject: AlertSubject,
        since: Option<Timestamp>,
        now: Timestamp,
        alerts: &mut Vec<Alert>,
    ) {
        let (state, since) = match (self.since.get(&subject).copied(), since) {
            (None, Some(since)) => {
                self.since.insert(subject.clone(), since);
                (AlertState::Firing, since)
            }
            (Some(since), None) => {
                self.since.remove(&subject);
                (AlertState::Resolved, since)
            }
            (None, None) | (Some(_), Some(_)) => return,
        };
        alerts.push(Alert {
            subject,
            state,
            since,
            at: now,
            dead: None,
        });
    }
}

/// Whether a problem that began at `since` lasts at least this long.
fn lasts(since: Timestamp, now: Timestamp, long: std::time::Duration) -> bool {
    let long = SignedDuration::try_from(long).unwrap_or(SignedDuration::MAX);
    now.duration_since(since) >= long
}

#[cfg(test)]
mod tests;
