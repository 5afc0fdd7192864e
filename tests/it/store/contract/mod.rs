//! What every store must do, said once for all back ends: through the traits alone.

mod answers;
mod banks;
mod claims;
mod clients;
mod console;
mod deliveries;
mod dispatch;
mod durations;
mod follows;
mod hints;
mod hosts;
mod outbox;
mod properties;
mod upkeep;
mod watches;
