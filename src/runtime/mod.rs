//! Owns every background task from spawn to stop.

mod changes;
mod flights;
mod handles;
mod resources;
mod search;
mod signals;
mod supervisor;
mod wake;
mod worker;

pub use self::{
    changes::{Changed, Changes, Following},
    flights::Flights,
    handles::{handle_limit, raise_handle_limit},
    resources::{causes, lacks_handles, lacks_resources},
    search::Search,
    signals::{Hangups, signalled},
    supervisor::{Stopped, Supervisor},
    wake::Wake,
    worker::{Tick, Worker, WorkerError, run_worker},
};
