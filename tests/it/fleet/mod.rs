//! Several relays on one PostgreSQL: they share the work, and take over the work of a relay that dies.

mod chaos;
mod clock;
pub(crate) mod crew;
mod erasure;
mod faults;
mod manners;
mod streams;
mod subscriptions;
