//! The commands' client of a running relay: its address and key on the command line, and calls over HTTP.

use std::{net::SocketAddr, path::PathBuf, sync::LazyLock, time::Duration};

use anyhow::{Context, Result, anyhow};
use happy_eyeballs::FirstToAnswer;
use relay_domain::ApiKey;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect::Policy};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    cli::{NAME, exit::CommandFailure, output::harmless},
    config::Settings,
};

/// The address of a relay with default settings.
static DEFAULT_RELAY: LazyLock<String> =
    LazyLock::new(|| format!("http://{}", Settings::default().server.listen));

/// The time-out of one call.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The maximum size of what is read of a stream, in bytes.
const LONGEST_STREAM: usize = 1024 * 1024;

/// Which relay to call, and with which key.
#[derive(Debug, clap::Args)]
pub(super) struct RelayArgs {
    /// Base address of the relay.
    #[arg(long, env = "BASIQ_RELAY_URL", value_name = "URL", default_value = &**DEFAULT_RELAY, value_parser = relay_address)]
    relay: Url,
    /// API key of the client; other users of this machine can see command lines.
    #[arg(long, env = "BASIQ_RELAY_KEY", hide_env_values = true)]
    key: Option<String>,
    /// File that holds the API key; it takes precedence over any other key.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Returns the address at which this machine reaches a listener. For an unspecified address, that is loopback.
pub(super) fn local_address(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], listen.port()))
    } else {
        listen
    }
}

pub(super) fn relay_address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("must begin with http:// or https://, such as https://relay.example".to_owned()),
    }
}

impl RelayArgs {
    /// Reads the key from its file. Without a file, takes the key from the command line or the environment.
    fn api_key(&self) -> Result<ApiKey, CommandFailure> {
        let text = match (&self.key_file, &self.key) {
            (Some(path), _) => std::fs::read_to_string(path)
                .with_context(|| format!("--key-file: cannot read {}", path.display()))
                .map_err(CommandFailure::usage)?,
            (None, Some(given)) => given.clone(),
            (None, None) => String::new(),
        };
        let text = text.trim();
        let is_sendable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_sendable {
            return Ok(ApiKey::presented(text));
        }
        Err(CommandFailure::usage(match &self.key_file {
            Some(path) => anyhow!(
                "--key-file: {} holds no API key; the key alone is allowed, on one line",
                path.display()
            ),
            None => anyhow!(
                "a client's API key is needed: in BASIQ_RELAY_KEY, or in a file with --key-file \
                 (`basiq-relay client add NAME` prints one)"
            ),
        }))
    }
}

/// A relay, and the client's API key for it.
#[derive(Debug)]
pub(super) struct RelayClient {
    http: Client,
    base: String,
    key: ApiKey,
}

/// Why a command's call to a relay failed. The command's exit code depends on it.
#[derive(Debug)]
pub(super) enum RelayCallError {
    /// The relay does not answer, or cannot answer at present. A retry may succeed.
    Away(anyhow::Error),
    /// The relay rejected the request as wrong.
    BadRequest(anyhow::Error),
    /// Another failure: what was asked for does not exist, Basiq refused the person's answer, or the server is no
    /// relay.
    Failed(anyhow::Error),
}

/// The fields of a problem document (RFC 9457) that are shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    errors: Vec<FieldFault>,
}

#[derive(Debug, Deserialize)]
struct FieldFault {
    message: String,
}

impl RelayClient {
    pub(super) fn new(args: &RelayArgs) -> Result<Self, CommandFailure> {
        Self::patient(args, TIME_LIMIT)
    }

    /// Creates a client whose calls may take this long.
    pub(super) fn patient(args: &RelayArgs, patience: Duration) -> Result<Self, CommandFailure> {
        let (base, key) = (&args.relay, args.api_key()?);
        // A redirect could send the key to another server.
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(patience)
            .dns_resolver(FirstToAnswer::at(base))
            .build()
            .context("no HTTP client")?;
        Ok(Self {
            http,
            base: base.as_str().trim_end_matches('/').to_owned(),
            key,
        })
    }

    /// Posts a document. Returns the status and the document of the answer.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, T), RelayCallError> {
        let url = format!("{}/{path}", self.base);
        let answer = self.call(self.http.post(&url).json(body), &url).await?;
        Ok((answer.status(), read(answer, &url).await?))
    }

    /// Gets a document.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RelayCallError> {
        let url = format!("{}/{path}", self.base);
        let answer = self.call(self.http.get(&url), &url).await?;
        read(answer, &url).await
    }

    /// Returns why the relay cannot ask Basiq at present, in words; none if it can, or does not say.
    pub(super) async fn upstream_trouble(&self) -> Option<&'static str> {
        #[derive(Deserialize)]
        struct Readiness {
            upstream: String,
        }
        let readiness = self.get::<Readiness>("readyz").await.ok()?;
        match readiness.upstream.as_str() {
            "failing" => Some("The relay cannot reach Basiq at present; it tries again by itself."),
            "throttled" => Some("Basiq has asked the relay to slow down; it asks again by itself."),
            "key-refused" => Some("Basiq refuses the relay's API key."),
            _ => None,
        }
    }

    /// Makes a call whose answer has no document.
    pub(super) async fn order(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), RelayCallError> {
        let url = format!("{}/{path}", self.base);
        let mut request = self.http.request(method, &url);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.call(request, &url).await.map(drop)
    }

    /// Reads the messages of a stream until `find` returns something for one of them, or the stream ends.
    pub(super) async fn read_stream<T>(
        &self,
        path: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, RelayCallError> {
        let url = format!("{}/{path}", self.base);
        let mut answer = self.call(self.http.get(&url), &url).await?;
        let mut bytes = Vec::new();
        while let Some(more) = answer.chunk().await.map_err(|error| away(error, &url))? {
            bytes.extend_from_slice(&more);
            let text = String::from_utf8_lossy(&bytes);
            // The part after the last empty line is not complete yet.
            let complete = text
                .rsplit_once("\n\n")
                .map_or("", |(complete, _)| complete);
            if let Some(found) = complete.split("\n\n").find_map(&find) {
                return Ok(Some(found));
            }
            if bytes.len() > LONGEST_STREAM {
                break;
            }
        }
        Ok(None)
    }

    /// Returns the command line that runs `command` about a watch at this relay. The key has to be in the environment.
    pub(super) fn command_line(&self, command: &str, argument: &str) -> String {
        let mut line = format!("{NAME} {command} {}", harmless(argument));
        if self.base != *DEFAULT_RELAY {
            line = format!("{line} --relay {}", self.base);
        }
        line
    }

    async fn call(&self, request: RequestBuilder, url: &str) -> Result<Response, RelayCallError> {
        let answered = request.bearer_auth(self.key.expose()).send().await;
        let answer = answered.map_err(|error| away(error, url))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Problem = answer.json().await.unwrap_or_default();
        let told = match status {
            StatusCode::UNAUTHORIZED => anyhow!("{url} does not know this API key (HTTP 401)"),
            _ => anyhow!("{url} answered HTTP {status}{}", problem.in_words()),
        };
        Err(match status.as_u16() {
            429 | 500..=599 => RelayCallError::Away(told),
            // The relay found no fault in the request.
            422 if problem.kind.ends_with("/mfa-refused") => RelayCallError::Failed(told),
            400 | 401 | 403 | 413 | 415 | 422 => RelayCallError::BadRequest(told),
            _ => RelayCallError::Failed(told),
        })
    }
}

async fn read<T: DeserializeOwned>(answer: Response, url: &str) -> Result<T, RelayCallError> {
    let text = answer.text().await.map_err(|error| away(error, url))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{url} gave an answer that is not a relay's"))
        .map_err(RelayCallError::Failed)
}

fn away(error: reqwest::Error, url: &str) -> RelayCallError {
    RelayCallError::Away(unanswered(error, url))
}

/// Says that a relay does not answer, why, and what to do. Names its address without path and query.
pub(super) fn unanswered(error: reqwest::Error, url: &str) -> anyhow::Error {
    let base =
        Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
    let why = if error.is_timeout() {
        "it took too long".to_owned()
    } else {
        // the last cause says it, and those before only that a request failed
        let error = anyhow::Error::new(error.without_url());
        error.root_cause().to_string()
    };
    anyhow!("the relay at {base} does not answer: {why}; does `{NAME} serve` run there?")
}

impl From<RelayCallError> for CommandFailure {
    fn from(error: RelayCallError) -> Self {
        match error {
            RelayCallError::BadRequest(error) => Self::usage(error),
            RelayCallError::Away(error) | RelayCallError::Failed(error) => Self::failed(error),
        }
    }
}

impl Problem {
    /// Lists the field errors one by one, or gives the detail if there are none.
    fn in_words(&self) -> String {
        let faults = self.errors.iter().map(|fault| &fault.message);
        let told: Vec<_> = if self.errors.is_empty() {
            vec![&self.detail]
        } else {
            faults.collect()
        };
        told.into_iter()
            .filter(|text| !text.is_empty())
            .fold(String::new(), |words, text| words + "; " + &harmless(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_all_its_faults() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": "/problems/invalid-field", "detail": "1 fault was found.",
            "errors": [{"pointer": "/until", "code": "too-long", "message": "`until` is long"}],
        }))
        .unwrap();
        assert_eq!(problem.in_words(), "; `until` is long");
        let problem: Problem = serde_json::from_str(r#"{"detail":"Later."}"#).unwrap();
        assert_eq!(problem.in_words(), "; Later.");
        assert_eq!(Problem::default().in_words(), "");
    }
}
