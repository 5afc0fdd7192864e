//! The black-box tests, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should fail right there"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a scene is set in one place, read top to bottom"
)]

mod alerts;
mod answers;
mod api;
mod architecture;
mod basiq_answers;
mod callback_auth;
mod callback_test;
mod client_keys;
mod clock;
mod command_line;
mod console;
mod delivery;
mod development;
mod dispatch;
mod erase;
mod fleet;
mod forwarding;
mod fuzz;
mod heads;
mod hinted_looks;
mod hints;
mod journeys;
mod json_requests;
mod kill;
mod messages;
mod mfa;
mod naughty_strings;
mod network;
mod not_basiq;
mod odd_basiq;
mod openapi;
mod outcomes;
mod outside;
mod pace;
mod pages;
mod postgres;
mod raw_answers;
mod refused_rows;
mod relay_commands;
mod reload;
mod resources;
mod sandbox_command;
mod schema;
mod secrets;
mod settings;
mod shutdown;
mod signature;
mod silence;
mod sqlite_file;
mod store;
mod streams;
mod subscribe_command;
mod subscriptions;
mod support;
mod terminal;
mod test_callback_command;
mod timing;
mod traces;
mod tracker;
mod upstream;
mod watch_command;
