//! The problems that each operation can return, with an example of each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::{
    Ref, RefOr, Response,
    content::ContentBuilder,
    example::{Example, ExampleBuilder},
    header::HeaderBuilder,
    path::{Operation, Parameter, ParameterIn},
    response::ResponseBuilder,
    schema::{ObjectBuilder, Type},
};

use crate::{
    api::{hints::HINT_PROBLEMS, watch::ANSWER_PROBLEMS},
    web::ProblemCode,
};

/// Problems of single operations that cannot be derived from the rest of the document.
const OWN_PROBLEMS: &[(&str, &[ProblemCode])] = &[
    ("createWatch", &[ProblemCode::TooManyOpenWatches]),
    ("createSubscription", &[ProblemCode::TooManySubscriptions]),
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
    ("readMetrics", &[ProblemCode::NotFound]),
];

/// The problems of a call that delivers one delivery again.
const REDELIVERY_PROBLEMS: &[ProblemCode] = &[ProblemCode::NewerEvent, ProblemCode::WatchCancelled];

/// The problems of every operation.
const ALWAYS: &[ProblemCode] = &[
    ProblemCode::BadRequest,
    ProblemCode::InternalError,
    ProblemCode::TimedOut,
    ProblemCode::Overloaded,
];

/// The problems of every operation that reads a body.
const WITH_BODY: &[ProblemCode] = &[
    ProblemCode::BadRequest,
    ProblemCode::NotJson,
    ProblemCode::BodyTooLarge,
    ProblemCode::UnsupportedMediaType,
    ProblemCode::NotAnObject,
    ProblemCode::InvalidField,
];

/// Adds the problem responses to an operation.
pub(super) fn add_problems(path: &str, operation: &mut Operation) {
    let call = Call::of(path, operation);
    let mut by_status: BTreeMap<u16, Vec<ProblemCode>> = BTreeMap::new();
    for code in problems_of(operation) {
        let codes = by_status.entry(code.status().as_u16()).or_default();
        codes.push(code);
    }
    for (status, codes) in by_status {
        let responses = &mut operation.responses.responses;
        let mut response = call.response(&codes);
        // a page that the operation answers with the same status
        if let Some(RefOr::T(own)) = responses.remove(&status.to_string()) {
            let pages = own.content.into_iter();
            response
                .content
                .extend(pages.filter(|(media, _)| media == "text/html"));
        }
        responses.insert(status.to_string(), RefOr::T(response));
    }
}

/// Returns the problems of an operation, derived from its parameters, body and security.
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
    parameters(operation).any(|parameter| &parameter.parameter_in == place)
}

fn parameters(operation: &Operation) -> impl Iterator<Item = &Parameter> {
    let parameters = operation.parameters.iter().flatten();
    parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

fn is_secured_by(operation: &Operation, scheme: &str) -> bool {
    let requirements = operation.security.iter().flatten();
    requirements
        .filter_map(|requirement| serde_json::to_value(requirement).ok())
        .any(|requirement| requirement.get(scheme).is_some())
}

/// A failing call, for the examples.
struct Call {
    /// The path of the request.
    path: String,
    /// The name of a field of the request body.
    field: Option<String>,
}

impl Call {
    /// Creates the call from the examples in an operation.
    fn of(path: &str, operation: &Operation) -> Self {
        let told = serde_json::to_value(operation).unwrap_or_default();
        let parameters = told.get("parameters").and_then(Value::as_array);
        let mut path = path.to_owned();
        for parameter in parameters.into_iter().flatten() {
            let text = |key| parameter.get(key).and_then(Value::as_str);
            if let (Some(name), Some(value)) = (text("name"), text("example")) {
                path = path.replace(&format!("{{{name}}}"), value);
            }
        }
        let body = told.pointer("/requestBody/content/application~1json/example");
        let field = body.and_then(|body| body.as_object()?.keys().next().cloned());
        Self { path, field }
    }

    /// Creates the response of one status, which can be any of these problems.
    fn response(&self, codes: &[ProblemCode]) -> Response {
        let described = codes.iter();
        let described = described.map(|code| format!("`{}`: {}.", code.as_str(), code.title()));
        let examples = codes
            .iter()
            .map(|code| (code.as_str(), RefOr::T(self.example(*code))));
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .examples_from_iter(examples)
            .build();
        let mut response = ResponseBuilder::new()
            .description(described.collect::<Vec<_>>().join(" "))
            .content("application/problem+json", content);
        if codes.iter().any(|code| code.tells_when_to_return()) {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer);
            let header = HeaderBuilder::new()
                .schema(Some(seconds))
                .description(Some("Seconds after which to ask again"))
                .build();
            response = response.header("retry-after", header);
        }
        response.build()
    }

    fn example(&self, code: ProblemCode) -> Example {
        let mut value = json!({
            "type": code.type_uri(),
            "title": code.title(),
            "status": code.status().as_u16(),
            "detail": code.example(),
            "instance": self.path,
        });
        if let Some(object) = value.as_object_mut() {
            object.extend(self.members(code));
        }
        ExampleBuilder::new()
            .summary(code.title())
            .value(Some(value))
            .build()
    }

    /// Returns the members that only problems of invalid input have.
    fn members(&self, code: ProblemCode) -> Map<String, Value> {
        let members = match (code, &self.field) {
            (ProblemCode::InvalidField, Some(field)) => json!({"errors": [{
                "pointer": format!("/{field}"),
                "code": "required",
                "message": format!("`{field}` is required"),
            }]}),
            (ProblemCode::InvalidParameter, _) => json!({"errors": [{
                "pointer": "/page",
                "code": "unknown-field",
                "message": "\"page\" is not a known parameter",
            }]}),
            _ => Value::Null,
        };
        serde_json::from_value(members).unwrap_or_default()
    }
}
