//! Extracts the trace that a call belongs to.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, request::Parts};
use relay_domain::TraceContext;
use tracing::Span;

use crate::telemetry;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The parent for the spans that a call starts. This is the call's own span if it is exported, else the client's
/// `traceparent`. `None` if the client sent none.
pub struct CallTrace(pub Option<TraceContext>);

impl<S: Sync> FromRequestParts<S> for CallTrace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let own = telemetry::context_of(&Span::current());
        Ok(Self(own.or_else(|| sent(&parts.headers))))
    }
}

/// Reads the client's `traceparent` header. Two headers of that name count as none.
pub(super) fn sent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(&TRACEPARENT).into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => TraceContext::parse(value.to_str().ok()?),
        (None | Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&TRACEPARENT, value.parse().unwrap());
        }
        sent(&headers).map(|trace| trace.to_string())
    }

    #[test]
    fn one_valid_header_counts_and_nothing_else() {
        assert_eq!(read(&[VALID]).as_deref(), Some(VALID));
        for others in [&[][..], &["00-nonsense"], &["é"], &[VALID, VALID]] {
            assert_eq!(read(others), None, "{others:?}");
        }
    }
}
