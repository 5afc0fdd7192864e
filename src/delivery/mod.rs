//! Sends due deliveries to their callbacks and records each attempt.
//!
//! [`retry`] says what follows an attempt and is pure. `address_guard` keeps attempts away from
//! private networks, `dialer` connects to what it vetted, `connections` keeps connections for the next
//! request, `sender` makes one attempt, `worker` makes them many at a time.

mod address_guard;
mod addresses;
mod connections;
mod dialer;
#[cfg(test)]
mod fakes;
mod hosts;
pub mod retry;
mod sender;
mod tls;
mod worker;

pub use self::{
    address_guard::{AddressGuard, NameResolver, NoAddress, SystemResolver},
    sender::{AttemptOutcome, CallbackResponse, CallbackSender},
    tls::{DeliveryError, further_certificates},
    worker::DeliveryWorker,
};
