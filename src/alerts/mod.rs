//! Sends operators a signed alert when a problem begins, and another when it is over. For operators without Prometheus.
//!
//! * [`firing`] decides which problems begin and which are over. It is pure.
//! * `sender` posts the alerts. Each kind has a queue of its own.
//! * `watcher` collects the facts and runs the other parts.
//!
//! Alerts do not wait for the store, so the relay can also send one about a store that cannot be written. The memory is
//! bounded: a queue holds few alerts, and an alert that finds its queue full is dropped.
//!
//! There is no leader. The relay that started first sends the alerts about problems that all relays see. Once operators
//! were told of a problem, the store remembers it until they were told that it is over. Each relay reads at its start
//! what it told itself. The first relay goes on with all that others told, at its start and when it takes over.

mod alert;
pub mod firing;
mod sender;
mod target;
mod watcher;

pub use self::{
    alert::{Alert, AlertKind, AlertState},
    sender::AlertSender,
    target::{alert_secret, alert_url},
    watcher::{AlertSources, AlertWatcher},
};
