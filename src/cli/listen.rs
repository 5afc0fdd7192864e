//! `basiq-relay listen`: a receiver for local development.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow};
use axum::http::StatusCode;
use relay_domain::{SigningSecret, clock::Clock};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cli::{
    colour::Painter,
    exit::CommandFailure,
    output::{self, harmless},
    receiver::{Received, Receiver, ReceiverOptions},
    terminal::Screen,
    values::{in_millis, listen_address},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay listen --secret whsec_… --fail 2")]
pub(super) struct ListenArgs {
    /// Address to serve on; every path accepts callbacks.
    #[arg(long, default_value = "127.0.0.1:8091", value_parser = listen_address)]
    listen: SocketAddr,
    /// Signing secret of the client; without it, signatures are not checked.
    #[arg(long, env = "BASIQ_RELAY_SIGNING_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Answer 500 to this many requests before accepting any.
    #[arg(long, default_value_t = 0)]
    fail: u32,
    /// Answer every request with this status.
    #[arg(long, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// Wait this long before each answer: milliseconds, or a duration such as `2s`.
    #[arg(long, default_value = "0", value_name = "MS", value_parser = in_millis)]
    delay: Duration,
}

pub(super) async fn run(args: ListenArgs) -> Result<(), CommandFailure> {
    let secret = args.secret.as_deref().map(SigningSecret::parse).transpose();
    let secret = secret.map_err(|error| CommandFailure::usage(anyhow!("--secret: {error}")))?;
    let checks = secret.is_some();
    let options = ReceiverOptions {
        secret,
        fail: args.fail,
        status: args
            .status
            .and_then(|status| StatusCode::from_u16(status).ok()),
        delay: args.delay,
    };
    let (receiver, mut events) = Receiver::bind(args.listen, options, Clock::system())
        .await
        .with_context(|| format!("cannot listen on {} (set by --listen)", args.listen))?;
    output::line(format!(
        "receiving on http://{} (stop with Ctrl-C)",
        receiver.local_addr()
    ))?;
    if !checks {
        output::line("signatures are not checked: give --secret to check them")?;
    }
    let stop = CancellationToken::new();
    let serve = receiver.serve(stop.clone());
    let (colours, screen) = (Painter::detect(), Screen::detect());
    let print = async {
        while let Some(event) = events.recv().await {
            output::line(describe(&event, colours, &screen))?;
        }
        anyhow::Ok(())
    };
    let on_signal = async {
        let heard = relay_runtime::signalled().await;
        stop.cancel();
        heard
    };
    let (served, printed, heard) = tokio::join!(serve, print, on_signal);
    served.context("the receiver stopped")?;
    heard.context("signals cannot be received")?;
    printed?;
    Ok(())
}

/// Describes one request: its local time, the result of the signature check, a short summary, and the whole body.
fn describe(event: &Received, paint: Painter, screen: &Screen) -> String {
    let verified = match event.verified {
        Some(true) => paint.good("signature valid"),
        Some(false) => paint.bad("SIGNATURE NOT VALID"),
        None => paint.dim("signature not checked"),
    };
    let body = if event.body.is_null() {
        event.raw.clone()
    } else {
        indented(&event.raw)
    };
    format!(
        "{}  {}  {}  {verified}  answered {}\n{}{}\n",
        paint.dim(screen.time(event.at)),
        harmless(&event.path),
        paint.bold(event.event_id.as_deref().unwrap_or("no webhook-id")),
        paint.http_status(event.status_answered),
        in_short(event, paint),
        harmless(&body),
    )
}

/// Breaks the lines of a JSON document for people. Keys keep their order, and numbers their digits.
fn indented(json: &str) -> String {
    let (mut text, mut depth, mut previous) = (String::new(), 0_usize, ' ');
    let (mut is_text, mut is_escaped) = (false, false);
    for letter in json.chars() {
        if is_text {
            is_text = letter != '"' || is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            text.push(letter);
        } else if !letter.is_ascii_whitespace() {
            let (opens, closes) = (matches!(previous, '{' | '['), matches!(letter, '}' | ']'));
            depth = (depth + usize::from(opens)).saturating_sub(usize::from(closes));
            if (opens && !closes) || (closes && !opens) || previous == ',' {
                text = text + "\n" + &"  ".repeat(depth);
            }
            text.push(letter);
            if letter == ':' {
                text.push(' ');
            }
            is_text = letter == '"';
            previous = letter;
        }
    }
    text
}

/// Summarises an event in two lines. Returns an empty text if the body is not an event.
fn in_short(event: &Received, paint: Painter) -> String {
    let field = |name: &str| {
        let text = event.body.get(name).and_then(Value::as_str);
        text.map(harmless)
    };
    let (Some(status), Some(action)) = (field("status"), field("action")) else {
        return String::new();
    };
    let parts = [field("failedStep"), field("errorCode")];
    let why = parts
        .into_iter()
        .flatten()
        .fold(String::new(), |why, part| why + "  " + &part);
    format!(
        "{}{why}  → {}\n{}\n",
        paint.standing(&status, 0),
        paint.bold(action),
        field("userMessage").unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_told_in_short_and_anything_else_as_it_came() {
        let mut came = Received {
            at: "2026-11-23T09:14:28Z".parse().unwrap(),
            event_id: Some("evt_1".to_owned()),
            verified: Some(true),
            body: json!({
                "status": "failed", "failedStep": "verify-credentials",
                "errorCode": "invalid-credentials", "action": "resubmit-credentials",
                "userMessage": "Check them.",
            }),
            raw: r#"{"userMessage":"Check \"them\".","a":[1.50,{}],"b":[]}"#.to_owned(),
            path: "/hook".to_owned(),
            status_answered: 204,
        };
        let told = describe(&came, Painter::PLAIN, &Screen::utc(None));
        let mut lines = told.lines();
        assert_eq!(
            lines.next(),
            Some("09:14:28  /hook  evt_1  signature valid  answered 204")
        );
        assert_eq!(
            lines.next(),
            Some("failed  verify-credentials  invalid-credentials  → resubmit-credentials")
        );
        assert_eq!(lines.next(), Some("Check them."));
        let body: Vec<_> = lines.collect();
        let expected = [
            "{",
            r#"  "userMessage": "Check \"them\".","#,
            "  \"a\": [",
            "    1.50,",
            "    {}",
            "  ],",
            "  \"b\": []",
            "}",
        ];
        assert_eq!(body, expected);

        came.body = Value::Null;
        came.raw = "\u{1b}[2Jodd".to_owned();
        let told = describe(&came, Painter::PLAIN, &Screen::utc(None));
        assert!(told.ends_with("\n\u{fffd}[2Jodd\n"), "{told:?}");
    }
}
