//! Looks at due jobs and records what became of them.
//!
//! [`schedule`], [`memory`] and [`transition`] are pure: read them first. `look` asks Basiq,
//! `worker` claims, keeps looks in flight and records them in batches.

mod bank;
mod look;
pub mod memory;
pub mod schedule;
pub mod transition;
mod worker;

pub use self::{look::Looker, worker::TrackerWorker};
