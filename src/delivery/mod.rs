//! Sends due deliveries to their callbacks and records each attempt.
//!
//! [`retry`] says what follows an attempt and is pure. `address_guard` keeps attempts away from
//! private networks, `sender` makes one attempt, `worker` makes them many at a time.

mod address_guard;
#[cfg(test)]
mod fakes;
mod hosts;
pub mod retry;
mod sender;
mod worker;

pub use self::{
    address_guard::{AddressGuard, AddressRefused, NameResolver, SystemResolver},
    sender::{Answer, CallbackSender, DeliveryError, further_certificates},
    worker::DeliveryWorker,
};
