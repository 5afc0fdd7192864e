//! The operator's console. Its pages show what the relay watches and what it could not deliver and why. Its forms act
//! on both.
//!
//! The relay renders the pages, and htmx refreshes them. Without JavaScript, they work as plain links and forms. They
//! exist only if an operator has a token.

mod action_result;
mod activity_charts;
mod assets;
mod audit;
mod callback_test;
mod chart;
mod clients;
mod comparison;
mod concerns;
mod deliveries;
mod erase;
mod fault;
mod filter;
mod form;
mod hosts;
mod lists;
mod login;
mod names;
mod origin;
mod overview;
mod redelivery;
mod request;
mod scan;
mod search;
mod session;
mod span;
mod state;
mod subscriptions;
mod throttle;
mod timeline;
mod view;
mod visit;
mod watch;
mod watches;
mod words;

use axum::{
    Router,
    extract::State,
    response::Redirect,
    routing::{any, get},
};

pub use self::state::{CallBudget, ConsoleParts, WakeCallback};
use self::{fault::ErrorPage, state::ConsoleState, visit::PageContext};

/// Returns the router of all pages.
pub fn router(parts: ConsoleParts) -> Router {
    Router::new()
        .route("/console/", get(async || Redirect::permanent("/console")))
        .route("/console/{*rest}", any(nothing))
        .merge(assets::routes())
        .merge(login::routes())
        .merge(overview::routes())
        .merge(comparison::routes())
        .merge(watches::routes())
        .merge(watch::routes())
        .merge(subscriptions::routes())
        .merge(deliveries::routes())
        .merge(redelivery::routes())
        .merge(hosts::routes())
        .merge(clients::routes())
        .merge(erase::routes())
        .merge(callback_test::routes())
        .merge(audit::routes())
        .with_state(ConsoleState::new(parts))
}

async fn nothing(_: State<ConsoleState>, _: PageContext) -> ErrorPage {
    ErrorPage::nothing("There is no such page in the console.")
}
