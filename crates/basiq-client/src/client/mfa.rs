//! Sends a person's answer to an open challenge. The call is not safe to repeat: it is not sent again once it
//! may have reached Basiq.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use relay_domain::{JobId, MfaAnswer};
use reqwest::header;
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::{
    BasiqError,
    breaker::BreakerPermit,
    client::{BasiqClient, Inner, address, judge, read},
    measure::Endpoint,
    response::{BasiqResponse, ResponseMeaning},
};

/// The time limit for sending an answer, including the token and all waiting. A person waits for the result.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long to wait for the body of a successful response. Without the body, the status alone decides.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// Why Basiq did not accept an answer. The error never contains the answer.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// Basiq checked the answer and refused it: the answer was wrong or too late, or no challenge was open.
    #[error(
        "Basiq refused the answer (HTTP {status}, code {code:?}, correlation id {correlation_id:?})"
    )]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code that Basiq sent.
        code: Option<String>,
        /// Basiq's correlation id of the call, for Basiq's support.
        correlation_id: Option<String>,
    },
    /// Basiq did not take the answer, so the answer may be sent again.
    #[error("the answer was not taken: {0}")]
    NotTaken(#[source] BasiqError),
    /// It is unknown whether Basiq took the answer.
    #[error("nobody knows whether the answer was taken: {0}")]
    Unknown(#[source] BasiqError),
}

/// The definite result of one attempt.
enum Attempt {
    Accepted,
    /// Basiq refused the token and did not check the answer.
    TokenRefused(BasiqError),
}

impl BasiqClient {
    /// Sends `POST /jobs/{id}/mfa` on behalf of the user, with a token of that user.
    ///
    /// The call takes at most eight seconds, including the token and one retry with a new token.
    pub async fn answer_challenge(
        &self,
        job_id: &JobId,
        user_id: &str,
        answer: &MfaAnswer,
    ) -> Result<(), AnswerError> {
        let posting = Posting {
            job_id,
            url: address(&self.0.base, &["jobs", job_id.as_str(), "mfa"])
                .map_err(AnswerError::NotTaken)?,
            user_id,
            answer,
            deadline: Instant::now() + PATIENCE,
        };
        let result = Box::pin(self.0.answer(&posting)).await;
        match &result {
            Ok(()) | Err(AnswerError::Refused { .. }) => self.0.health.note(&Ok(())),
            Err(AnswerError::NotTaken(_) | AnswerError::Unknown(_)) => {}
        }
        result.map_err(|error| error.without(answer))
    }
}

/// An answer that is being sent.
struct Posting<'a> {
    job_id: &'a JobId,
    url: Url,
    user_id: &'a str,
    answer: &'a MfaAnswer,
    deadline: Instant,
}

impl Posting<'_> {
    fn body(&self) -> String {
        json!({ "mfa-response": self.answer.expose().collect::<Vec<_>>() }).to_string()
    }
}

impl Inner {
    /// Sends an answer, and once more with a new token if Basiq refused the token.
    async fn answer(&self, posting: &Posting<'_>) -> Result<(), AnswerError> {
        match self.answer_once(posting).await? {
            Attempt::Accepted => return Ok(()),
            Attempt::TokenRefused(_) => {}
        }
        match self.answer_once(posting).await? {
            Attempt::Accepted => Ok(()),
            Attempt::TokenRefused(error) => Err(AnswerError::NotTaken(error)),
        }
    }

    async fn answer_once(&self, posting: &Posting<'_>) -> Result<Attempt, AnswerError> {
        let token = self.tokens.of_user(posting.user_id, &self.throttle);
        let token = timeout_at(posting.deadline, token)
            .await
            .unwrap_or(Err(BasiqError::TimedOut))
            .map_err(AnswerError::NotTaken)?;
        timeout_at(posting.deadline, self.post(posting, token))
            .await
            .unwrap_or(Err(AnswerError::Unknown(BasiqError::TimedOut)))
    }

    async fn post(
        &self,
        posting: &Posting<'_>,
        token: HeaderValue,
    ) -> Result<Attempt, AnswerError> {
        let response = self
            .once_only
            .post(posting.url.clone())
            .header(header::AUTHORIZATION, token)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .with_extension(Endpoint::Mfa)
            .body(posting.body())
            .send()
            .await
            .map_err(unsent)?;
        if response.status().is_success() {
            let permit = response.extensions().get::<Arc<BreakerPermit>>().cloned();
            let reading = BasiqResponse::read(response, self.clock.now());
            return if let Ok(answer) = timeout(BODY_PATIENCE, reading).await {
                taken(answer, posting.job_id)
            } else {
                judge(permit.as_deref(), true);
                Ok(Attempt::Accepted)
            };
        }
        let answer = BasiqResponse::read(response, self.clock.now()).await;
        let sent_at = answer.sent_at;
        let error = match answer.meaning() {
            ResponseMeaning::Good(..) => return Ok(Attempt::Accepted),
            ResponseMeaning::TokenRefused(error, _) => return Ok(Attempt::TokenRefused(error)),
            ResponseMeaning::Bad(error) => error,
        };
        match &error {
            BasiqError::Throttled {
                status,
                retry_after,
            } => self.throttle.pause(*status, *retry_after, sent_at),
            _ => self.throttle.recover(sent_at),
        }
        Err(AnswerError::of(error))
    }
}

/// Checks that a successful response comes from Basiq. If a gateway sent it instead, the person would wait for
/// nothing.
fn taken(answer: BasiqResponse, job_id: &JobId) -> Result<Attempt, AnswerError> {
    if answer.is_empty() {
        // The status decides, even if the body broke off.
        answer.report_usable(true);
        return Ok(Attempt::Accepted);
    }
    let permit = answer.permit();
    let json = answer.into_json().map_err(AnswerError::Unknown)?;
    let read = read::answered(&json, job_id);
    judge(permit.as_deref(), read.is_ok());
    read.map_err(AnswerError::Unknown)?;
    Ok(Attempt::Accepted)
}

/// Converts an error of sending. Without a connection, nothing has reached Basiq.
fn unsent(error: reqwest_middleware::Error) -> AnswerError {
    let left = match &error {
        reqwest_middleware::Error::Reqwest(error) => !error.is_connect() && !error.is_builder(),
        reqwest_middleware::Error::Middleware(_) => false,
    };
    let error = BasiqError::from_sending(error);
    if left {
        AnswerError::Unknown(error)
    } else {
        AnswerError::NotTaken(error)
    }
}

impl AnswerError {
    /// Interprets a response in which Basiq does not accept the answer.
    fn of(error: BasiqError) -> Self {
        match error {
            BasiqError::NotFound {
                status,
                code,
                correlation_id,
            } => Self::Refused {
                status,
                code,
                correlation_id,
            },
            // A gateway sends 408, and 403 without a code.
            BasiqError::Status {
                status,
                code,
                correlation_id,
            } if (400..500).contains(&status) && !matches!(status, 403 | 408) => Self::Refused {
                status,
                code,
                correlation_id,
            },
            BasiqError::Status { status: 403, .. }
            | BasiqError::Forbidden { .. }
            | BasiqError::Throttled { .. }
            | BasiqError::Resting { .. }
            | BasiqError::NoResources(_)
            | BasiqError::KeyRefused => Self::NotTaken(error),
            BasiqError::Status { .. }
            | BasiqError::TimedOut
            | BasiqError::Unreachable(_)
            | BasiqError::Unreadable(_) => Self::Unknown(error),
        }
    }

    /// Removes texts of Basiq that repeat the answer.
    fn without(mut self, answer: &MfaAnswer) -> Self {
        let texts = match &mut self {
            Self::Refused {
                code,
                correlation_id,
                ..
            }
            | Self::NotTaken(
                BasiqError::Status {
                    code,
                    correlation_id,
                    ..
                }
                | BasiqError::Forbidden {
                    code,
                    correlation_id,
                    ..
                },
            )
            | Self::Unknown(BasiqError::Status {
                code,
                correlation_id,
                ..
            }) => [code, correlation_id],
            Self::NotTaken(_) | Self::Unknown(_) => return self,
        };
        for text in texts {
            text.take_if(|text| answer.is_repeated_in(text));
        }
        self
    }
}
