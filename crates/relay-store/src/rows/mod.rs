//! How values are read from rows. Both back ends share it.

mod activity;
mod alerts;
mod attempts;
mod audit;
mod banks;
mod callback_auth;
mod census;
mod clients;
mod console;
mod details;
mod host_pauses;
mod row;
mod sources;
mod subscriptions;

use std::time::Duration;

pub(super) use self::{
    activity::activity_row,
    alerts::told_alert,
    attempts::{StoredAttempt, attempts},
    audit::audit_entry,
    banks::due_bank,
    callback_auth::{SealedAuthChange, seal_change},
    census::{census, troubles},
    clients::{ClientSecrets, client, resealed, secrets},
    console::{ASKED, failing_host, latest_failure, prefix_upper_bound},
    details::{
        delivery_id, due_delivery, due_job, entry, event, events, redeliverable,
        redeliverable_from_basiq, version, watches_by_job, without_events,
    },
    host_pauses::{host_pause, manual_pause},
    row::{
        AnyRow, ColumnReader, IdBytes, WrongColumnType, int, millis, millis_earlier, millis_later,
        time,
    },
    sources::{EventKind, source},
    subscriptions::{due_list, readable_subscriptions, subscription_details},
};

/// How long a row that cannot be read is put off.
pub(super) const UNREADABLE_RETRY_AFTER: Duration = Duration::from_hours(1);
