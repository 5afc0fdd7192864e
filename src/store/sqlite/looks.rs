//! What looks brought: jobs, watches, events and their deliveries, in one unit of work and, however
//! many looks there are, in a few statements.

use std::collections::{BTreeSet, HashSet};

use rusqlite::{Connection, params};

use crate::{
    domain::JobId,
    store::{
        DueDelivery, Look, NewDeliveries, OutageChange, Sealer, StoreError,
        common::{
            Lessons, NewsRow, Obstacles, changes, claim_new, claims, event_rows, held, jobs, later,
            news, reports, secrets_of,
        },
        hand_over::{Handed, Slots},
        sqlite::{
            banks::begin_outage,
            paces::learn,
            row::{json_list, json_rows},
            statement::{execute, fetch_all, scalars},
        },
    },
};

pub(super) const HOLD: &str = "SELECT j.job_id FROM jsonb_each(?1) l CROSS JOIN jobs j \
    ON j.job_id = l.value ->> 'job_id' AND j.lease_id = l.value ->> 'lease_id'";

pub(super) const CHANGE_WATCHES: &str = "UPDATE watches SET state = c.value ->> 'state', \
    progress = c.value ->> 'progress', updated_at = c.value ->> 'at', \
    settled_at = iif(c.value ->> 'state' IN ('settled', 'cancelled'), c.value ->> 'at', NULL) \
    FROM jsonb_each(?1) c WHERE watches.watch_id = c.value ->> 'watch_id' \
    AND +watches.job_id = c.value ->> 'job_id' AND +watches.settled_at IS NULL \
    RETURNING watch_id, client_id, job_id, callback_url, callback_host, traceparent";

pub(super) const ADD_EVENTS: &str = "INSERT INTO events (event_id, watch_id, body, created_at) \
    SELECT value ->> 'event_id', value ->> 'watch_id', value ->> 'body', value ->> 'at' \
    FROM jsonb_each(?1) WHERE TRUE ON CONFLICT (event_id) DO NOTHING RETURNING event_id";

/// The plus keeps the planner off the index of states, where all that is pending would be read.
pub(super) const SUPERSEDE: &str = "UPDATE deliveries SET state = 'superseded', \
    next_attempt_at = NULL, updated_at = n.value ->> 'at' FROM jsonb_each(?1) n \
    WHERE deliveries.watch_id = n.value ->> 'watch_id' AND +deliveries.state = 'pending'";

pub(super) const ADD_DELIVERIES: &str = "INSERT INTO deliveries (delivery_id, event_id, watch_id, \
    client_id, host, state, next_attempt_at, deadline, updated_at, lease_id, lease_until) \
    SELECT value ->> 'delivery_id', value ->> 'event_id', value ->> 'watch_id', \
    value ->> 'client_id', value ->> 'host', 'pending', value ->> 'at', value ->> 'deadline', \
    value ->> 'at', value ->> 'lease_id', iif(value ->> 'lease_id' IS NULL, NULL, ?2) \
    FROM jsonb_each(?1)";

pub(super) const OBSTACLES: &str = "SELECT f.host AS id, 0 AS is_watch \
    FROM json_each(?1) i CROSS JOIN failing_hosts f ON f.host = i.value WHERE f.pauses > 0 \
    UNION ALL SELECT d.watch_id, 1 FROM json_each(?2) i \
    CROSS JOIN deliveries d ON d.watch_id = i.value WHERE +d.lease_until > ?3";

pub(super) const SECRETS: &str = "SELECT c.client_id, c.name, c.secret, c.previous_secret, \
    c.previous_until FROM json_each(?1) i CROSS JOIN clients c ON c.client_id = i.value";

/// A watch that joined since the claim was not looked at yet: the job stays due.
pub(super) const RECORD_JOBS: &str = "UPDATE jobs SET memory = l.value ->> 'memory', lease_id = NULL, \
    lease_until = NULL, \
    waits_for = iif(l.value ->> 'waits_on', waits_for, l.value ->> 'bank'), \
    waits_for_method = iif(l.value ->> 'waits_on', waits_for_method, l.value ->> 'method'), \
    urgency = iif(joined, 0, l.value ->> 'urgency'), next_look_at = CASE \
        WHEN NOT EXISTS (SELECT 1 FROM watches w \
            WHERE w.job_no = jobs.job_no AND w.settled_at IS NULL) THEN NULL \
        WHEN joined THEN l.value ->> 'at' \
        WHEN hinted_at > l.value ->> 'at' THEN min(hinted_at, l.value ->> 'next_look_at') \
        ELSE l.value ->> 'next_look_at' END, \
    user_id = l.value ->> 'user_id', connection_id = l.value ->> 'connection_id' \
    FROM jsonb_each(?1) l WHERE jobs.job_id = l.value ->> 'job_id'";

const FORGET_FAILURES: &str = "DELETE FROM connection_failures \
    WHERE connection_id IN (SELECT value FROM json_each(?1))";

const ADD_FAILURES: &str = "INSERT INTO connection_failures (connection_id, job_id, failed_at) \
    SELECT value ->> 'connection_id', value ->> 'job_id', value ->> 'at' \
    FROM jsonb_each(?1) WHERE TRUE ON CONFLICT DO NOTHING";

/// Where new deliveries find room, and what opens their clients' secrets.
pub(super) type Handing = (NewDeliveries, Sealer);

/// Records looks; says of which jobs the lease still held, and which new deliveries were claimed at once.
pub(super) fn record(
    connection: &Connection,
    looks: &[Look],
    handing: &Handing,
) -> Result<(Vec<JobId>, Handed<DueDelivery>), StoreError> {
    let still: Vec<String> = scalars(connection, HOLD, params![json_rows(&claims(looks))?])?;
    let looks = held(looks, still);
    if looks.is_empty() {
        return Ok((Vec::new(), None));
    }
    let handed = change_watches(connection, &looks, handing)?;
    report_connections(connection, &looks)?;
    learn(connection, &Lessons::of(&looks))?;
    for look in &looks {
        if let OutageChange::Began(bank, next_look_at) = &look.outage {
            begin_outage(connection, bank, *next_look_at)?;
        }
    }
    execute(connection, RECORD_JOBS, params![json_rows(&jobs(&looks)?)?])?;
    let recorded = looks.iter().map(|look| look.job_id.clone());
    Ok((recorded.collect(), handed))
}

/// Changes the watches that are still open, and stores what they are told.
fn change_watches(
    connection: &Connection,
    looks: &[&Look],
    handing: &Handing,
) -> Result<Handed<DueDelivery>, StoreError> {
    let rows = changes(looks)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let changed = fetch_all(connection, CHANGE_WATCHES, params![json_rows(&rows)?])?;
    let news = news(looks, &changed)?;
    if news.is_empty() {
        return Ok(None);
    }
    add_events(connection, news, handing)
}

/// Adds events and their deliveries, each once, in place of what was not accepted yet.
fn add_events(
    connection: &Connection,
    mut news: Vec<NewsRow>,
    (desk, sealer): &Handing,
) -> Result<Handed<DueDelivery>, StoreError> {
    let added: Vec<String> = scalars(
        connection,
        ADD_EVENTS,
        params![json_rows(&event_rows(&news))?],
    )?;
    if added.len() < news.len() {
        let added: HashSet<_> = added.into_iter().collect();
        news.retain(|row| added.contains(&row.event_id));
    }
    let handed = match desk.slots() {
        Some(slots) => Some(claim(connection, &mut news, slots, sealer)?),
        None => None,
    };
    let until = handed.as_ref().map(|(slots, _)| slots.claim());
    let rows = json_rows(&news)?;
    execute(connection, SUPERSEDE, params![&rows])?;
    execute(
        connection,
        ADD_DELIVERIES,
        params![&rows, until.map(|claim| later(claim.now, claim.lease))],
    )?;
    Ok(handed)
}

/// Claims new deliveries as far as there is room.
fn claim(
    connection: &Connection,
    news: &mut [NewsRow],
    mut slots: Slots<DueDelivery>,
    sealer: &Sealer,
) -> Result<(Slots<DueDelivery>, Vec<DueDelivery>), StoreError> {
    let hosts: BTreeSet<_> = news.iter().map(|row| row.host.as_str()).collect();
    let obstacles = fetch_all(
        connection,
        OBSTACLES,
        params![
            json_list(hosts),
            json_list(news.iter().map(|row| row.watch_id.as_str())),
            slots.claim().now.as_millisecond()
        ],
    )?;
    let clients: BTreeSet<_> = news.iter().map(|row| row.client_id).collect();
    let secrets = fetch_all(connection, SECRETS, params![json_list(clients)])?;
    let secrets = secrets_of(&secrets, sealer);
    let claimed = claim_new(news, &mut slots, &Obstacles::read(&obstacles)?, &secrets);
    Ok((slots, claimed))
}

/// Counts failures of connections, and forgets those before a success.
fn report_connections(connection: &Connection, looks: &[&Look]) -> Result<(), StoreError> {
    let (succeeded, failures) = reports(looks);
    if !succeeded.is_empty() {
        execute(connection, FORGET_FAILURES, params![json_list(succeeded)])?;
    }
    if !failures.is_empty() {
        execute(connection, ADD_FAILURES, params![json_rows(&failures)?])?;
    }
    Ok(())
}
