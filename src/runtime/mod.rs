//! Owns every background task from spawn to stop.

mod changes;
mod flights;
mod signals;
mod supervisor;
mod wake;
mod worker;

pub use self::{
    changes::{Changed, Changes, Following},
    flights::Flights,
    signals::{Hangups, signalled},
    supervisor::{Stopped, Supervisor},
    wake::Wake,
    worker::{Tick, Worker, WorkerError, run_worker},
};
