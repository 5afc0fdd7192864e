//! Tells operators by a signed message when something needs them, and when it is over. For those without Prometheus.
//!
//! * [`book`] decides what begins and what is over. It is pure.
//! * `reporter` decides which relay of a fleet tells what all of them see. It is pure too.
//! * `sender` posts the messages, each kind in a lane of its own.
//! * `watcher` collects the facts and runs all of it.
//!
//! Nothing is stored, so an alert that the store cannot be written is sent all the same. The memory is bounded: a lane
//! holds few messages, and a message that finds its lane full is dropped.

mod alert;
pub mod book;
mod reporter;
mod sender;
mod target;
mod watcher;

pub use self::{
    alert::{Alert, AlertKind, AlertState},
    sender::AlertSender,
    target::{alert_secret, alert_url},
    watcher::{AlertSources, AlertWatcher},
};
