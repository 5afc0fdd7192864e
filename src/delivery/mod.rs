//! Sends due deliveries to their callbacks and records each attempt.
//!
//! * [`retry`] decides what follows an attempt. It is pure.
//! * `address_guard` keeps attempts away from private networks.
//! * `dialer` connects only to vetted addresses.
//! * `connections` keeps connections for later requests.
//! * `sender` makes one attempt.
//! * `single` posts messages that are not in the outbox.
//! * `worker` makes many attempts at a time.

mod address_guard;
mod addresses;
mod connections;
mod dialer;
#[cfg(test)]
mod fakes;
mod hosts;
pub mod retry;
mod sender;
mod single;
mod tls;
mod worker;

pub use self::{
    address_guard::{AddressGuard, NameResolver, NoAddress, SystemResolver},
    sender::{AttemptOutcome, CallbackResponse, CallbackSender, MessageResult, SignedMessage},
    single::SingleSender,
    tls::{DeliveryError, further_certificates},
    worker::DeliveryWorker,
};
