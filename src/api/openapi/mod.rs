//! The OpenAPI document: what the handlers say, and the problems that follow from it.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::{
    OpenApi,
    openapi::{
        Content, OpenApi as Document, PathItem, Paths, Ref, RefOr, Required, Response,
        content::ContentBuilder,
        example::{Example, ExampleBuilder},
        header::HeaderBuilder,
        link::Link,
        path::{HttpMethod, Operation, OperationBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        response::ResponseBuilder,
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    api::{all_routes, examples, hints::HINT_PROBLEMS, watch::ANSWER_PROBLEMS},
    domain::EventBody,
    web::{FieldCode, FieldError, ProblemCode, ProblemDocument},
};

/// Problems of single operations that nothing else in the document tells of.
const OWN_PROBLEMS: &[(&str, &[ProblemCode])] = &[
    ("createWatch", &[ProblemCode::TooManyOpenWatches]),
    ("getWatch", &[ProblemCode::TooManyStreams]),
    ("streamWatch", &[ProblemCode::TooManyStreams]),
    (
        "redeliverWatch",
        &[ProblemCode::NothingToRedeliver, ProblemCode::WatchCancelled],
    ),
    ("redeliverDelivery", REDELIVERY_PROBLEMS),
    (
        "redeliverAnyWatch",
        &[ProblemCode::NothingToRedeliver, ProblemCode::WatchCancelled],
    ),
    ("redeliverAnyDelivery", REDELIVERY_PROBLEMS),
    ("addClient", &[ProblemCode::NameTaken]),
    ("answerChallenge", ANSWER_PROBLEMS),
    ("receiveHint", HINT_PROBLEMS),
    ("isReady", &[ProblemCode::NotReady]),
];

/// How asking for one delivery once more can end.
const REDELIVERY_PROBLEMS: &[ProblemCode] = &[ProblemCode::NewerEvent, ProblemCode::WatchCancelled];

/// Any operation can end so.
const ALWAYS: &[ProblemCode] = &[
    ProblemCode::InternalError,
    ProblemCode::TimedOut,
    ProblemCode::Overloaded,
];

/// An operation that reads a body can end so.
const WITH_BODY: &[ProblemCode] = &[
    ProblemCode::BadRequest,
    ProblemCode::NotJson,
    ProblemCode::BodyTooLarge,
    ProblemCode::UnsupportedMediaType,
    ProblemCode::NotAnObject,
    ProblemCode::InvalidField,
];

/// What an answer names, and the operations that take it: operation, status, where the id is, the
/// parameter, and those operations.
const LINKS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("createWatch", "200", "/id", "watchId", WATCH_OPERATIONS),
    ("createWatch", "202", "/id", "watchId", WATCH_OPERATIONS),
    (
        "addClient",
        "201",
        "/name",
        "name",
        &["rotateSecret", "retireSecret", "rotateKey", "revokeClient"],
    ),
];

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
        description = "Watches Basiq's jobs and tells a backend, by one signed webhook, what became of \
            each and what to do about it. Errors are problems (RFC 9457); a method that a path does not have is \
            answered with 405. Each answer carries `x-request-id`; one that is sent along is kept.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "watches", description = "Ask to be told what becomes of a job."),
        (name = "deliveries", description = "What could not be delivered, and how to try again."),
        (name = "catalogue", description = "Error codes, and what to do and to say about each."),
        (name = "hints", description = "Basiq's own webhooks, which make the relay look at once."),
        (name = "health", description = "For load balancers and monitoring."),
        (name = "documentation", description = "This document and its pages."),
        (name = "admin", description = "For the operator; only there with an admin token in the settings."),
    ),
    components(schemas(ProblemDocument<'_>, FieldError, FieldCode, EventBody)),
)]
struct Frame;

/// The OpenAPI 3.1 document of the whole API.
#[must_use]
pub fn document() -> Document {
    let mut document = Frame::openapi();
    document.merge(all_routes().into_openapi());
    add_security_schemes(&mut document);
    document.webhooks = Some(webhooks());
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            add_problems(operation);
            add_links(operation);
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
        ("adminToken", "The value of `RELAY_ADMIN_TOKEN`."),
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

fn add_problems(operation: &mut Operation) {
    let mut by_status: BTreeMap<u16, Vec<ProblemCode>> = BTreeMap::new();
    for code in problems_of(operation) {
        let codes = by_status.entry(code.status().as_u16()).or_default();
        codes.push(code);
    }
    for (status, codes) in by_status {
        operation
            .responses
            .responses
            .insert(status.to_string(), RefOr::T(problem_response(&codes)));
    }
}

/// The problems an operation can end in, as its parameters, body and security tell.
fn problems_of(operation: &Operation) -> Vec<ProblemCode> {
    let mut codes = Vec::new();
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if operation.request_body.is_some() && id != "receiveHint" {
        codes.extend(WITH_BODY);
    }
    if has_parameter(operation, &ParameterIn::Query) {
        codes.push(ProblemCode::InvalidParameter);
    }
    if has_parameter(operation, &ParameterIn::Path) {
        codes.push(ProblemCode::NotFound);
    }
    if is_secured_by(operation, "apiKey") {
        codes.push(ProblemCode::TooManyRequests);
    }
    if operation.security.is_some() {
        codes.extend([ProblemCode::Unauthorized, ProblemCode::StoreUnavailable]);
    }
    if is_secured_by(operation, "adminToken") {
        codes.push(ProblemCode::NotFound);
    }
    let own = OWN_PROBLEMS.iter().filter(|(owner, _)| *owner == id);
    codes.extend(own.flat_map(|(_, codes)| *codes));
    codes.extend(ALWAYS);
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn has_parameter(operation: &Operation, place: &ParameterIn) -> bool {
    let parameters = operation.parameters.iter().flatten();
    parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        })
        .any(|parameter| &parameter.parameter_in == place)
}

fn is_secured_by(operation: &Operation, scheme: &str) -> bool {
    let requirements = operation.security.iter().flatten();
    requirements
        .filter_map(|requirement| serde_json::to_value(requirement).ok())
        .any(|requirement| requirement.get(scheme).is_some())
}

fn problem_response(codes: &[ProblemCode]) -> Response {
    let titles: Vec<_> = codes.iter().map(|code| code.title()).collect();
    let examples = codes
        .iter()
        .map(|code| (code.as_str(), RefOr::T(problem_example(*code))));
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    let mut response = ResponseBuilder::new()
        .description(titles.join("; "))
        .content("application/problem+json", content);
    if codes.iter().any(|code| tells_when_to_return(*code)) {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
            .description(Some("Seconds after which to ask again"))
            .build();
        response = response.header("retry-after", header);
    }
    response.build()
}

fn tells_when_to_return(code: ProblemCode) -> bool {
    matches!(code.status().as_u16(), 429 | 503) && code != ProblemCode::NotReady
}

fn problem_example(code: ProblemCode) -> Example {
    let mut value = json!({
        "type": code.type_uri(),
        "title": code.title(),
        "status": code.status().as_u16(),
        "detail": code.title().to_owned() + ".",
        "instance": "/watch",
    });
    let fault = match code {
        ProblemCode::InvalidField => Some(("/jobId", "required", "`jobId` is required")),
        ProblemCode::InvalidParameter => Some((
            "/limit",
            "invalid-value",
            "`limit` must be a number from 1 to 200; it is \"0\"",
        )),
        _ => None,
    };
    if let (Some((pointer, code, message)), Some(object)) = (fault, value.as_object_mut()) {
        let error = json!({"pointer": pointer, "code": code, "message": message});
        object.insert("errors".to_owned(), json!([error]));
    }
    ExampleBuilder::new().value(Some(value)).build()
}

/// What the relay posts to a callback.
fn webhooks() -> Paths {
    let content: Content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("EventBody")))
        .example(Some(examples::event()))
        .build();
    let body = RequestBodyBuilder::new()
        .content("application/json", content)
        .required(Some(Required::True))
        .build();
    let operation = OperationBuilder::new()
        .operation_id(Some("jobEvent"))
        .summary(Some("What became of a job"))
        .description(Some(
            "Posted to the callback of a watch, signed after the Standard Webhooks specification: \
             `webhook-id` (the same on every attempt), `webhook-timestamp` and \
             `webhook-signature`. Any 2xx accepts it.",
        ))
        .request_body(Some(body))
        .response("2XX", Response::new("Accepted"))
        .build();
    let mut webhooks = Paths::new();
    let item = PathItem::new(HttpMethod::Post, operation);
    webhooks.paths.insert("jobEvent".to_owned(), item);
    webhooks
}

#[cfg(test)]
mod tests;
