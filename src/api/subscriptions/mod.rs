//! Subscriptions: register, read, list, end.

mod create;
mod end;
mod read;
mod request;
mod view;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::api::ApiState;

/// The tag of these calls in the OpenAPI document.
const TAG: &str = "subscriptions";

/// The problem's detail if a client has no such subscription.
const NO_SUCH_SUBSCRIPTION: &str = "There is no such subscription.";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(
            create::create_subscription,
            read::list_subscriptions
        ))
        .routes(routes!(read::get_subscription, end::end_subscription))
}
