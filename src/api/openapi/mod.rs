//! The OpenAPI document: the handlers' descriptions, their problems, and the events that are posted to callbacks.

mod problems;
mod webhooks;

use relay_domain::EventBody;
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document, PathItem, RefOr,
        link::Link,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use self::{problems::add_problems, webhooks::webhooks};
use crate::{
    api::all_routes,
    callback_test::TestEventBody,
    web::{FieldCode, FieldError, ProblemDocument},
};

/// Links from a response to operations that take its id: operation, status, pointer to the id, parameter, and
/// target operations.
const LINKS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("createWatch", "200", "/id", "watchId", WATCH_OPERATIONS),
    ("createWatch", "202", "/id", "watchId", WATCH_OPERATIONS),
    (
        "createSubscription",
        "200",
        "/id",
        "subscriptionId",
        SUBSCRIPTION_OPERATIONS,
    ),
    (
        "createSubscription",
        "201",
        "/id",
        "subscriptionId",
        SUBSCRIPTION_OPERATIONS,
    ),
    (
        "addClient",
        "201",
        "/name",
        "name",
        &["rotateSecret", "retireSecret", "rotateKey", "revokeClient"],
    ),
];

const SUBSCRIPTION_OPERATIONS: &[&str] = &["getSubscription", "endSubscription"];

const WATCH_OPERATIONS: &[&str] = &[
    "getWatch",
    "cancelWatch",
    "redeliverWatch",
    "answerChallenge",
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "basiq-relay",
        description = "The relay watches Basiq's jobs. It sends your backend one signed webhook with the result of \
            each job and what to do next. A backend sends its API key as `Authorization: Bearer brk_…`. Errors are \
            problems (RFC 9457), whose `type` leads to a page about them: [all problems](/problems). For a method \
            that a path does not have, the relay answers 405. Each answer has an `x-request-id`; if the request has \
            one, the answer repeats it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(name = "The maintainers of basiq-relay"),
    ),
    servers((url = "/", description = "The relay that serves this document")),
    tags(
        (name = "watches", description = "Watch a job and get its events."),
        (name = "subscriptions", description = "Get the events of all jobs of a user, and notices about the user."),
        (name = "events", description = "The events that the relay posts to callbacks."),
        (name = "deliveries", description = "See deliveries with their attempts, and send events again."),
        (name = "catalogue", description = "Error codes, each with its action and its message for the person."),
        (name = "hints", description = "Receive Basiq's own webhooks. The relay uses them as hints and notices, and can pass them on."),
        (name = "health", description = "For load balancers and monitoring."),
        (name = "documentation", description = "This document and its pages."),
        (name = "admin", description = "For operators. These calls exist only if an operator has a token."),
    ),
    components(schemas(ProblemDocument<'_>, FieldError, FieldCode, EventBody, TestEventBody)),
)]
struct Frame;

/// Returns the OpenAPI 3.1 document of the whole API.
#[must_use]
pub fn document() -> Document {
    let mut document = Frame::openapi();
    document.merge(all_routes().into_openapi());
    add_security_schemes(&mut document);
    document.webhooks = Some(webhooks());
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            add_problems(path, operation);
            add_links(operation);
            // set explicitly, because generators may take a missing value for a required key
            operation.security.get_or_insert_default();
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}

fn add_security_schemes(document: &mut Document) {
    let components = document.components.get_or_insert_default();
    for (name, description) in [
        ("apiKey", "The key that `basiq-relay client add` printed."),
        (
            "adminToken",
            "The value of `RELAY_ADMIN_TOKEN`, or the token of an operator in `RELAY_ADMIN_TOKENS`.",
        ),
    ] {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(description))
            .build();
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
    }
}

fn add_links(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for (_, status, pointer, parameter, targets) in LINKS.iter().filter(|link| link.0 == id) {
        let Some(RefOr::T(response)) = operation.responses.responses.get_mut(*status) else {
            continue;
        };
        for target in *targets {
            let link = Link::builder()
                .operation_id(*target)
                .parameter(*parameter, format!("$response.body#{pointer}"))
                .build();
            response.links.insert((*target).to_owned(), RefOr::T(link));
        }
    }
}

#[cfg(test)]
mod tests;
