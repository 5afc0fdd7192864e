//! Extractors for bodies, queries and paths. Each responds with a problem if its input is invalid.

use std::{fmt, str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use futures_util::StreamExt;
use http::{HeaderMap, header, request::Parts};
use serde_json::{Value, value::RawValue};
use url::form_urlencoded;

use crate::web::{
    fields::{cut, shown},
    object::RawObject,
    problem::{FieldCode, FieldError, Problem},
    problem_code::ProblemCode,
};

/// The maximum size of a request body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// The time limit of a body. It ends before that of the whole request, so that a slow client is told the reason.
const BODY_TIME_LIMIT: Duration = Duration::from_secs(8);

/// How much of a body over the limit is read before the problem is sent, in bytes.
const MAX_DRAINED: usize = 1024 * 1024;

/// A JSON object sent as `application/json`, of at most `MOST` bytes.
#[derive(Debug)]
pub struct JsonObject<const MOST: usize = MAX_BODY>(pub RawObject);

impl<S: Send + Sync, const MOST: usize> FromRequest<S> for JsonObject<MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read_json(request, MOST).await?;
        object(&body)?.map(Self).map_err(|other| {
            let detail = format!("The body is {}.", cut(other.get()));
            Problem::new(ProblemCode::NotAnObject, detail)
        })
    }
}

/// A JSON object sent as `application/json` that holds a secret. Neither problems nor `Debug` repeat any of it.
pub struct SecretObject(pub RawObject);

impl fmt::Debug for SecretObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<S: Send + Sync> FromRequest<S> for SecretObject {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read_json(request, MAX_BODY).await?;
        object(&body)?.map(Self).map_err(|_| {
            let detail = "The body is JSON, but no object.";
            Problem::new(ProblemCode::NotAnObject, detail)
        })
    }
}

/// Reads a body with the content type `application/json`.
async fn read_json(request: Request, most: usize) -> Result<Vec<u8>, Problem> {
    check_content_type(request.headers())?;
    check_announced_length(request.headers(), most)?;
    read_body(request.into_body(), most).await
}

/// Parses a body as an object. Returns the raw value as the inner error if it is another JSON value.
fn object(body: &[u8]) -> Result<Result<RawObject, &RawValue>, Problem> {
    // the error names the position and what is expected, but does not repeat the input
    let not_json = |error: serde_json::Error| {
        Problem::new(ProblemCode::NotJson, format!("The body: {error}."))
    };
    let value: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
    if value.get().starts_with('{') {
        serde_json::from_slice(body).map(Ok).map_err(not_json)
    } else {
        Ok(Err(value))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE);
    let essence = given
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemCode::UnsupportedMediaType,
        "Send the body with `Content-Type: application/json`.",
    ))
}

fn check_announced_length(headers: &HeaderMap, most: usize) -> Result<(), Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_DRAINED as u64) {
        return Err(too_large(most));
    }
    Ok(())
}

fn too_large(most: usize) -> Problem {
    let detail = format!("A body has at most {most} bytes.");
    Problem::new(ProblemCode::BodyTooLarge, detail)
}

/// Reads a body. Bytes over the limit are read for a while and dropped, because a client that is still sending
/// would not see the response.
async fn read_body(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut seen) = (Vec::new(), 0_usize);
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| incomplete("The body did not arrive whole."))?;
            seen = seen.saturating_add(chunk.len());
            if seen <= most {
                kept.extend_from_slice(&chunk);
            } else if seen > MAX_DRAINED {
                break;
            }
        }
        Ok(())
    };
    let read = tokio::time::timeout(BODY_TIME_LIMIT, reading).await;
    if seen > most {
        return Err(too_large(most));
    }
    let in_time = read.map_err(|_| incomplete("The body did not arrive within 8 seconds."))?;
    in_time.map(|()| kept)
}

fn incomplete(detail: &'static str) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
}

/// A body of any content type, of at most [`MAX_BODY`] bytes.
#[derive(Debug)]
pub struct RawBody(pub Vec<u8>);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_announced_length(request.headers(), MAX_BODY)?;
        read_body(request.into_body(), MAX_BODY).await.map(Self)
    }
}

/// The id in a path. Text that is not a valid id names nothing, so the response is 404.
#[derive(Debug)]
pub struct PathId<T>(pub T);

impl<T, S> FromRequestParts<S> for PathId<T>
where
    T: FromStr + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        text.ok()
            .and_then(|Path(text)| text.parse().ok())
            .map(Self)
            .ok_or_else(|| Problem::not_found("There is nothing with this id."))
    }
}

/// The query parameters that have not been taken yet, and the faults found so far.
#[derive(Debug)]
pub struct QueryParams {
    pairs: Vec<(String, String)>,
    faults: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl QueryParams {
    fn parse(query: &str) -> Self {
        Self {
            pairs: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            faults: Vec::new(),
        }
    }

    /// Takes a parameter and parses it with `read`. A value that `read` rejects is a fault.
    pub fn take<T>(
        &mut self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let mut values = Vec::new();
        self.pairs.retain_mut(|(key, value)| {
            let other = key != name;
            if !other {
                values.push(std::mem::take(value));
            }
            other
        });
        if values.len() > 1 {
            let message = format!("`{name}` is given {} times", values.len());
            self.fault(name, FieldCode::InvalidValue, message);
            return None;
        }
        let value = values.pop()?;
        let read = read(&value);
        if read.is_none() {
            let value = shown(&Value::from(value));
            let message = format!("`{name}` must be {allowed}; it is {value}");
            self.fault(name, FieldCode::InvalidValue, message);
        }
        read
    }

    fn fault(&mut self, name: &str, code: FieldCode, message: String) {
        self.faults.push(FieldError {
            pointer: format!("/{name}"),
            code,
            message,
        });
    }

    /// Returns all faults as a problem. Each parameter that was not taken is a fault too.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            let message = format!("{} is not a known parameter", shown(&name.as_str().into()));
            let segment = name.replace('~', "~0").replace('/', "~1");
            self.fault(&segment, FieldCode::UnknownField, message);
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid(ProblemCode::InvalidParameter, self.faults))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn extract(content_type: Option<&str>, body: impl Into<Body>) -> Result<usize, Problem> {
        let mut request = Request::new(body.into());
        if let Some(value) = content_type {
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
        }
        let object = <JsonObject>::from_request(request, &()).await?;
        Ok(object.0.names().count())
    }

    #[tokio::test]
    async fn only_application_json_is_read() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;v=1",
        ] {
            assert_eq!(extract(Some(good), "{}").await.unwrap(), 0, "{good}");
        }
        for bad in [
            None,
            Some("text/plain"),
            Some("application/ld+json"),
            Some("application/jsonp"),
            Some("x"),
        ] {
            let problem = extract(bad, "{}").await.unwrap_err();
            assert_eq!(problem.code(), ProblemCode::UnsupportedMediaType, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_a_json_object_of_bounded_size() {
        let filled = |size: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(size - 8));
        assert!(
            extract(Some("application/json"), filled(MAX_BODY))
                .await
                .is_ok()
        );
        let deep = "[".repeat(200);
        let closed = format!("{deep}{}", "]".repeat(200));
        for (body, expected) in [
            (filled(MAX_BODY + 1), ProblemCode::BodyTooLarge),
            (String::new(), ProblemCode::NotJson),
            ("{\"a\":".to_owned(), ProblemCode::NotJson),
            ("{} {}".to_owned(), ProblemCode::NotJson),
            (deep, ProblemCode::NotJson),
            (closed, ProblemCode::NotAnObject),
            ("[1]".to_owned(), ProblemCode::NotAnObject),
            ("null".to_owned(), ProblemCode::NotAnObject),
            ("\"text\"".to_owned(), ProblemCode::NotAnObject),
        ] {
            let problem = extract(Some("application/json"), body).await.unwrap_err();
            assert_eq!(problem.code(), expected);
        }
        let problem = extract(Some("application/json"), vec![b'"', 0xff, b'"']).await;
        assert_eq!(problem.unwrap_err().code(), ProblemCode::NotJson);
    }

    #[tokio::test]
    async fn no_problem_of_a_secret_body_repeats_it() {
        for body in [
            "\"s3cret\"",
            "[\"s3cret\"]",
            "{\"response\":[s3cret]}",
            "s3cret",
        ] {
            let request = Request::post("/").header("content-type", "application/json");
            let request = request.body(Body::from(body)).unwrap();
            let problem = SecretObject::from_request(request, &()).await.unwrap_err();
            assert!(!format!("{problem:?}").contains("s3cret"), "{problem:?}");
        }
        let object: RawObject = serde_json::from_str("{\"response\":\"s3cret\"}").unwrap();
        assert_eq!(format!("{:?}", SecretObject(object)), "***");
    }

    #[tokio::test]
    async fn a_body_is_counted_when_its_length_is_not_announced() {
        let chunk = || Ok::<_, std::io::Error>("x".repeat(MAX_BODY));
        let body = Body::from_stream(futures_util::stream::repeat_with(chunk));
        let problem = extract(Some("application/json"), body).await.unwrap_err();
        assert_eq!(problem.code(), ProblemCode::BodyTooLarge);
        let broken: Result<String, _> = Err(std::io::Error::other("reset"));
        let body = Body::from_stream(futures_util::stream::iter([broken]));
        let problem = extract(Some("application/json"), body).await.unwrap_err();
        assert_eq!(problem.code(), ProblemCode::BadRequest);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_the_clients_fault() {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>("{")]);
        let body = Body::from_stream(first.chain(futures_util::stream::pending()));
        let problem = extract(Some("application/json"), body).await.unwrap_err();
        assert_eq!(problem.code(), ProblemCode::BadRequest);
        assert!(format!("{problem:?}").contains("within 8 seconds"));
    }

    #[test]
    fn parameters_are_taken_once_and_all_faults_are_told() {
        let mut params = QueryParams::parse("limit=7&state=&a=1&a=2&b=x&%2F=1");
        let number = |text: &str| text.parse::<u8>().ok();
        assert_eq!(params.take("limit", "a number", number), Some(7));
        assert_eq!(params.take("state", "a number", number), None);
        assert_eq!(params.take("a", "a number", number), None);
        assert_eq!(params.take("b", "a number", number), None);
        let problem = params.finish().unwrap_err();
        let told: Vec<_> = problem
            .errors()
            .iter()
            .map(|fault| fault.message.as_str())
            .collect();
        assert_eq!(
            told,
            [
                "`state` must be a number; it is \"\"",
                "`a` is given 2 times",
                "`b` must be a number; it is \"x\"",
                "\"/\" is not a known parameter"
            ]
        );
        assert_eq!(problem.errors()[3].pointer, "/~1");
    }
}
