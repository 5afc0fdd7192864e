//! Reads Basiq's responses, within limits, and interprets them. The status decides. The codes and texts of the
//! body only distinguish responses with the same status.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{Response, header};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    BasiqError, admission::SentAt, breaker::BreakerPermit, error_body::ErrorBody,
    lenient::parse_leniently,
};

/// The maximum size of a body, in bytes. Bodies from Basiq have a few KiB.
const BODY_LIMIT: usize = 1024 * 1024;
/// The longest `Retry-After` that is accepted. A longer one is shortened to it.
const RETRY_AFTER_LIMIT: Duration = Duration::from_hours(1);

/// A response whose body was read to its end, or until an error.
pub(super) struct BasiqResponse {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// When the request was sent, after all waiting.
    pub(super) sent_at: Instant,
    body: Result<Vec<u8>, BasiqError>,
    permit: Option<Arc<BreakerPermit>>,
}

/// The meaning of a response to a call with a token.
pub(super) enum ResponseMeaning {
    /// JSON, and the permit of the call. The reader of the JSON must report to the permit whether it is the
    /// requested document.
    Good(Value, Option<Arc<BreakerPermit>>),
    /// Basiq refuses the token. Holds the permit of the call, and the error to return if Basiq refuses a new
    /// token too.
    TokenRefused(BasiqError, Option<Arc<BreakerPermit>>),
    /// No usable response.
    Bad(BasiqError),
}

impl BasiqResponse {
    /// Reads a response. `now` is the time that a date in `Retry-After` is compared with.
    pub(super) async fn read(mut response: Response, now: Timestamp) -> Self {
        let sent_at = response.extensions().get::<SentAt>().map(|sent| sent.0);
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, now));
        let answer = Self {
            status: response.status().as_u16(),
            retry_after,
            sent_at: sent_at.unwrap_or_else(Instant::now),
            permit: response.extensions().get::<Arc<BreakerPermit>>().cloned(),
            body: read_body(&mut response).await,
        };
        if answer.body.is_err() || answer.status >= 500 {
            answer.report_usable(false);
        }
        answer
    }

    /// Reports to the breaker whether the response was usable. Only the first report counts.
    pub(super) fn report_usable(&self, usable: bool) {
        if let Some(permit) = &self.permit {
            permit.report_usable(usable);
        }
    }

    /// Returns the breaker's permit of the call.
    pub(super) fn permit(&self) -> Option<Arc<BreakerPermit>> {
        self.permit.clone()
    }

    /// Returns whether the body is empty or incomplete.
    pub(super) fn is_empty(&self) -> bool {
        self.body.as_deref().map_or(true, <[u8]>::is_empty)
    }

    /// Returns whether the status is 2xx.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Parses the body as JSON.
    pub(super) fn into_json(mut self) -> Result<Value, BasiqError> {
        let body = std::mem::replace(&mut self.body, Ok(Vec::new()))?;
        parse_leniently(&body).map_err(|error| {
            self.report_usable(false);
            BasiqError::Unreadable(format!("no JSON: {error}"))
        })
    }

    /// Parses the body as an error. Returns an empty one if the body is incomplete.
    pub(super) fn error_body(&self) -> ErrorBody {
        self.body
            .as_deref()
            .map(ErrorBody::parse)
            .unwrap_or_default()
    }

    /// Interprets the response to a call with a token. A refusal shows that Basiq works only if Basiq itself
    /// wrote it.
    pub(super) fn meaning(self) -> ResponseMeaning {
        if self.is_success() {
            let permit = self.permit();
            return match self.into_json() {
                Ok(json) => ResponseMeaning::Good(json, permit),
                Err(error) => ResponseMeaning::Bad(error),
            };
        }
        let error_body = self.error_body();
        let status = self.status;
        if status == 401 || (status == 403 && error_body.says_expired()) {
            return ResponseMeaning::TokenRefused(error_body.status(status), self.permit);
        }
        let error = self.refusal(error_body);
        self.report_usable(match &error {
            BasiqError::Status { status, .. } => (400..500).contains(status),
            BasiqError::Unreadable(_) => false,
            BasiqError::NotFound { .. }
            | BasiqError::Forbidden { .. }
            | BasiqError::Throttled { .. }
            | BasiqError::KeyRefused
            | BasiqError::Resting { .. }
            | BasiqError::NoResources(_)
            | BasiqError::TimedOut
            | BasiqError::Unreachable(_) => true,
        });
        ResponseMeaning::Bad(error)
    }

    /// Interprets a response without a status of success, whatever the token.
    fn refusal(&self, error_body: ErrorBody) -> BasiqError {
        let status = self.status;
        match status {
            429 => self.throttled(),
            403 if error_body.is_json() && error_body.speaks_of_limits() => self.throttled(),
            403 if error_body.is_basiqs() && error_body.says("disabled") => BasiqError::KeyRefused,
            403 if error_body.is_basiqs() => error_body.forbidden(status),
            400 | 404 if error_body.says_not_found() => error_body.not_found(status),
            _ => error_body.status(status),
        }
    }

    fn throttled(&self) -> BasiqError {
        BasiqError::Throttled {
            status: self.status,
            retry_after: self.retry_after,
        }
    }
}

async fn read_body(response: &mut Response) -> Result<Vec<u8>, BasiqError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BasiqError::from_transport)? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(BasiqError::Unreadable("it is larger than 1 MiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Parses seconds or an HTTP date. Returns `None` for an invalid value, zero or a time in the past.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let until = rfc2822::parse(value).ok()?.timestamp();
        Duration::try_from(until.duration_since(now)).ok()?
    };
    (!wait.is_zero()).then(|| wait.min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ResponseMeaning {
        BasiqResponse {
            status,
            retry_after: None,
            sent_at: Instant::now(),
            permit: None,
            body: Ok(body.as_bytes().to_vec()),
        }
        .meaning()
    }

    fn told(status: u16, code: &str, detail: &str) -> String {
        let body = serde_json::json!({"type": "list", "correlationId": "cor-1",
            "data": [{"type": "error", "code": code, "title": "T", "detail": detail}]});
        word(&answer(status, &body.to_string()))
    }

    fn word(meaning: &ResponseMeaning) -> String {
        match meaning {
            ResponseMeaning::Good(..) => "good".to_owned(),
            ResponseMeaning::TokenRefused(error, _) => format!("token, {}", name(error)),
            ResponseMeaning::Bad(error) => name(error).to_owned(),
        }
    }

    fn name(error: &BasiqError) -> &'static str {
        match error {
            BasiqError::NotFound { .. } => "not found",
            BasiqError::Forbidden { .. } => "forbidden",
            BasiqError::Throttled { .. } => "throttled",
            BasiqError::Status { .. } => "status",
            BasiqError::KeyRefused => "key",
            BasiqError::Unreadable(_) => "unreadable",
            BasiqError::TimedOut
            | BasiqError::Unreachable(_)
            | BasiqError::NoResources(_)
            | BasiqError::Resting { .. } => "other",
        }
    }

    #[test]
    fn the_status_decides_and_the_text_tells_answers_of_one_status_apart() {
        for (status, code, detail, expected) in [
            (
                404,
                "resource-not-found",
                "may have been deleted",
                "not found",
            ),
            (400, "resource-not-found", "no such job", "not found"),
            (400, "Resource not found", "no such job", "not found"),
            (404, "job-not-found", "no such job", "not found"),
            (404, "resource_not_found", "no such job", "not found"),
            (404, "resource-not-found", "Route not found", "unreadable"),
            (
                404,
                "resource-not-found",
                "Nothing for this API version",
                "unreadable",
            ),
            (404, "unknown-error", "no such job", "status"),
            (400, "parameter-not-valid", "Job ID", "status"),
            (409, "conflict", "not now", "status"),
            (401, "invalid-authorization-token", "", "token, status"),
            (401, "access-denied", "Token has expired", "token, status"),
            (403, "access-denied", "TOKEN HAS EXPIRED.", "token, status"),
            (403, "forbidden-access", "use another scope", "forbidden"),
            (403, "forbidden-access", "limited access", "forbidden"),
            (
                403,
                "request-not-valid",
                "Missing Authentication Token",
                "unreadable",
            ),
            (403, "forbidden-access", "the account is disabled", "key"),
            (403, "access-denied", "Request limit reached", "throttled"),
            (403, "too-many-requests", "", "throttled"),
            (429, "anything", "", "throttled"),
            (500, "parameter-not-valid", "an error", "status"),
            (503, "service-unavailable", "", "status"),
            (302, "", "", "status"),
        ] {
            assert_eq!(
                told(status, code, detail),
                expected,
                "{status} {code} {detail}"
            );
        }
    }

    #[test]
    fn bodies_of_other_shapes_are_tolerated() {
        assert_eq!(
            word(&answer(403, r#"{"message":"Limit Exceeded"}"#)),
            "throttled"
        );
        assert_eq!(
            word(&answer(
                403,
                r#"{"message":"Missing Authentication Token"}"#
            )),
            "unreadable"
        );
        assert_eq!(
            word(&answer(403, "<html>Token has expired")),
            "token, unreadable"
        );
        for body in [
            "",
            "null",
            "[]",
            "7",
            r#"{"data":7}"#,
            r#"{"data":[7,null]}"#,
        ] {
            assert_eq!(word(&answer(502, body)), "status", "{body}");
        }
        for body in ["", "{\"id\":", "<html>"] {
            assert_eq!(word(&answer(200, body)), "unreadable", "{body}");
        }
    }

    #[test]
    fn what_something_in_between_answers_is_not_basiqs_word() {
        for body in [
            "",
            "<html><h1>404 Not Found</h1>JavaScript is disabled; limits</html>",
            "default backend - 404",
            "null",
            "[]",
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"code":"resource-not-found"}"#,
            r#"{"data":[]}"#,
            r#"{"data":[{"title":"Not found"}]}"#,
        ] {
            for status in [400, 403, 404, 405, 409, 410, 422] {
                let shown = format!("{status} {body}");
                assert_eq!(word(&answer(status, body)), "unreadable", "{shown}");
            }
            assert_eq!(word(&answer(401, body)), "token, unreadable", "{body}");
        }
    }

    #[test]
    fn the_correlation_id_is_kept_and_cut() {
        let body = format!(r#"{{"correlationId":"{}","data":[]}}"#, "é".repeat(500));
        let ResponseMeaning::Bad(BasiqError::Status { correlation_id, .. }) = answer(500, &body)
        else {
            panic!("no status");
        };
        assert_eq!(correlation_id.unwrap().chars().count(), 128);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_in_bounds() {
        let now: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        for (value, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", None),
            ("-1", None),
            ("soon", None),
            ("999999", Some(3600)),
            ("99999999999999999999", Some(3600)),
            ("2.5", None),
            ("Mon, 23 Nov 2026 09:01:30 GMT", Some(90)),
            ("Mon, 23 Nov 2026 08:00:00 GMT", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, now), expected, "{value}");
        }
    }
}
