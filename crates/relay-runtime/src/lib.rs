//! Background tasks, from start to stop, and what they share.

mod claim_pacer;
mod handles;
mod host_name;
mod in_flight;
mod reloadable;
mod resources;
mod signals;
mod supervisor;
mod user;
mod wake;
mod worker;

pub use self::{
    claim_pacer::{ClaimPacer, HostBacklog, SlotDivision},
    handles::{handle_limit, raise_handle_limit},
    host_name::host_name,
    in_flight::InFlight,
    reloadable::Reloadable,
    resources::{causes, lacks_handles, lacks_resources},
    signals::{ReloadSignal, signalled},
    supervisor::{StopOutcome, Supervisor},
    user::user_name,
    wake::Wake,
    worker::{TickOutcome, Worker, WorkerError, run_worker},
};
