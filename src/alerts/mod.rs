//! Sends operators a signed alert when a problem begins, and another when it is over. For operators without Prometheus.
//!
//! * [`firing`] decides which problems begin and which are over. It is pure.
//! * `holder` decides which relay of a fleet sends an alert about a problem that all of them see. It is pure too.
//! * `sender` posts the alerts. Each kind has a queue of its own.
//! * `watcher` collects the facts and runs the other parts.
//!
//! Alerts are not stored, so the relay can also send one about a store that cannot be written. The memory is bounded: a
//! queue holds few alerts, and an alert that finds its queue full is dropped.

mod alert;
pub mod firing;
mod holder;
mod sender;
mod target;
mod watcher;

pub use self::{
    alert::{Alert, AlertKind, AlertState},
    sender::AlertSender,
    target::{alert_secret, alert_url},
    watcher::{AlertSources, AlertWatcher},
};
