//! `basiq-relay listen`: a receiver for local work.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow};
use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        exit::Failure,
        output::{self, Paint},
        receiver::{Received, Receiver, ReceiverOptions},
    },
    clock::Clock,
    domain::SigningSecret,
    runtime,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay listen --secret whsec_… --fail 2")]
pub(super) struct Args {
    /// Address to serve on; every path is a callback.
    #[arg(long, default_value = "127.0.0.1:8091")]
    listen: SocketAddr,
    /// The client's signing secret; without it signatures are not checked.
    #[arg(long, env = "BASIQ_RELAY_SIGNING_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Answer 500 to so many requests before accepting any.
    #[arg(long, default_value_t = 0)]
    fail: u32,
    /// Answer every request with this status.
    #[arg(long, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// Wait so many milliseconds before each answer.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay: u64,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let secret = args.secret.as_deref().map(SigningSecret::parse).transpose();
    let secret = secret.map_err(|error| Failure::usage(anyhow!("--secret: {error}")))?;
    let checks = secret.is_some();
    let options = ReceiverOptions {
        secret,
        fail: args.fail,
        status: args
            .status
            .and_then(|status| StatusCode::from_u16(status).ok()),
        delay: Duration::from_millis(args.delay),
    };
    let (receiver, mut events) = Receiver::bind(args.listen, options, Clock::system())
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    output::line(format!(
        "receiving on http://{} (stop with Ctrl-C)",
        receiver.local_addr()
    ))?;
    if !checks {
        output::line("signatures are not checked: give --secret to check them")?;
    }
    let stop = CancellationToken::new();
    let serve = receiver.serve(stop.clone());
    let print = async {
        while let Some(event) = events.recv().await {
            output::line(describe(&event))?;
        }
        anyhow::Ok(())
    };
    let on_signal = async {
        let heard = runtime::signalled().await;
        stop.cancel();
        heard
    };
    let (served, printed, heard) = tokio::join!(serve, print, on_signal);
    served.context("the receiver stopped")?;
    heard.context("signals cannot be heard")?;
    printed?;
    Ok(())
}

fn describe(event: &Received) -> String {
    let paint = Paint::detect();
    let verified = match event.verified {
        Some(true) => paint.good("signature valid"),
        Some(false) => paint.bad("SIGNATURE NOT VALID"),
        None => paint.dim("signature not checked"),
    };
    let body = serde_json::to_string_pretty(&event.body).unwrap_or_else(|_| event.raw.clone());
    format!(
        "{} {} {}  {verified}  answered {}\n{body}\n",
        paint.dim(event.at.strftime("%H:%M:%S%.3f")),
        event.path,
        paint.bold(event.event_id.as_deref().unwrap_or("no webhook-id")),
        event.status_answered,
    )
}
