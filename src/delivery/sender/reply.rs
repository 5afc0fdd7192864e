//! Reads a callback's response: status, `Retry-After` and the beginning of the body.

use std::net::IpAddr;

use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use relay_domain::{AttemptError, SecretHeaders};
use tokio::time::{Instant, timeout_at};

/// The maximum number of bytes to read of a response's body. The body is read so that the connection can be used
/// again.
const READ_AT_MOST: usize = 16 * 1024;
/// The maximum number of bytes to keep of a response's body.
pub(super) const KEEP_AT_MOST: usize = 1024;
/// The number of bytes to search for secrets: a secret that begins in the kept bytes ends in these.
const SEARCH_AT_MOST: usize = KEEP_AT_MOST + SecretHeaders::LONGEST_VALUE;

/// A callback's response, as far as it was read.
pub(super) struct CallbackReply {
    /// The address that responded.
    pub(super) address: IpAddr,
    pub(super) status: StatusCode,
    /// The `Retry-After` header, not parsed.
    pub(super) retry_after: Option<String>,
    /// The start of the body.
    pub(super) body: Option<String>,
}

impl CallbackReply {
    /// Reads a response until a time limit. A body that does not end by then is cut. The values of `secrets` are
    /// replaced in it, because some receivers repeat the request in their answer.
    pub(super) async fn read(
        address: IpAddr,
        answer: Response<Incoming>,
        until: Instant,
        secrets: Option<&SecretHeaders>,
    ) -> Self {
        let (head, body) = answer.into_parts();
        Self {
            address,
            status: head.status,
            retry_after: retry_after(&head.headers),
            body: beginning(body, until, secrets).await,
        }
    }

    /// Returns why the response does not count as accepted.
    pub(super) fn error(&self) -> Option<AttemptError> {
        if self.status.is_success() {
            None
        } else if self.status.is_redirection() {
            Some(AttemptError::Redirected)
        } else {
            Some(AttemptError::Refused)
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Returns the beginning of a body as text. A body that breaks off or does not end is not an error, because the
/// status alone decides.
async fn beginning(
    mut body: Incoming,
    until: Instant,
    secrets: Option<&SecretHeaders>,
) -> Option<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        read += chunk.len();
        let left = SEARCH_AT_MOST - kept.len();
        kept.extend(chunk.iter().take(left));
        if read >= READ_AT_MOST {
            break;
        }
    }
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if let Some(secrets) = secrets {
        text = secrets.redact(text);
    }
    let text = printable(text.as_bytes());
    (!text.is_empty()).then_some(text)
}

/// Returns the text without control characters except newline and tab, truncated at a character boundary.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect();
    text.truncate(text.floor_char_boundary(KEEP_AT_MOST));
    text
}
