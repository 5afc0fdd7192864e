//! Watches: register, read, wait, cancel, answer a challenge.

mod answer;
pub(super) mod batch;
mod cancel;
mod create;
mod follow;
mod read;
pub(super) mod request;
pub(super) mod view;
mod wait;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::api::ApiState;

pub(super) use self::{
    answer::ANSWER_PROBLEMS,
    batch::BatchLimit,
    cancel::cancel,
    follow::follow,
    read::{mark, take_query},
};

/// The tag of these calls in the OpenAPI document.
pub(super) const TAG: &str = "watches";

/// The problem's detail if a client has no such watch.
pub(super) const NO_SUCH_WATCH: &str = "There is no such watch.";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(create::create_watch, read::list_watches))
        .routes(routes!(batch::create_watches))
        .routes(routes!(read::get_watch, cancel::cancel_watch))
        .routes(routes!(answer::answer_challenge))
}
