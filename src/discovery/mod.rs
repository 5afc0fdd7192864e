//! Discovery: lists the jobs of the people that clients subscribed to, so that each new job becomes a watch.

mod list;
mod pace;
mod worker;

pub use self::{
    list::JobLister,
    worker::{DiscoverySignals, DiscoveryWorker},
};
