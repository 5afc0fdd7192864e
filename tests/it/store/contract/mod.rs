//! What every store must do, said once for all back ends: through the traits alone.

mod answers;
mod banks;
mod claims;
mod clients;
mod console;
mod deliveries;
mod follows;
mod handing;
mod hints;
mod hosts;
mod outbox;
mod paces;
mod properties;
mod upkeep;
mod watches;
