//! `basiq-relay sandbox`: runs the Basiq look-alike.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use basiq_sandbox::{
    ALLOWED_FAULTS, Fault, Sandbox, SandboxEventType, SandboxLogin, SandboxOptions, SandboxWebhook,
};
use relay_domain::{SigningSecret, clock::Clock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    cli::{NAME, exit::CommandFailure, output, values::listen_address},
    config::{Settings, parse_duration},
    telemetry,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: basiq-relay sandbox --speed 10 --fault 429:0.2\n\
    Example: basiq-relay sandbox --speed 1000 --update-succeeds-on 2 \
    --webhook-url http://127.0.0.1:8080/basiq/webhook --webhook-secret whsec_…\n\
    Example: basiq-relay sandbox --speed 1000 --refresh-every 24h --consent-lasts 7d\n\n\
    A running sandbox has further calls that Basiq lacks, to control it: see docs/SANDBOX.md.\n\
    Then: RELAY_BASIQ_URL=http://127.0.0.1:8090 RELAY_BASIQ_API_KEY=any basiq-relay serve"
)]
pub(super) struct SandboxArgs {
    /// Address to serve on.
    #[arg(long, default_value = "127.0.0.1:8090", value_parser = listen_address)]
    listen: SocketAddr,
    /// Run the sandbox's clock this many times faster.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Number of the retry at which an update of an unavailable bank succeeds. Without it, no retry succeeds. Retries
    /// are two hours apart on the sandbox's clock.
    #[arg(long, value_name = "RETRY", value_parser = clap::value_parser!(u32).range(1..))]
    update_succeeds_on: Option<u32>,
    /// Refresh each working connection this long after its last job. Basiq does so daily: `24h` on the sandbox's clock.
    /// As at Basiq, no call returns the id of that job.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    refresh_every: Option<Duration>,
    /// How long a consent lasts on the sandbox's clock; without it, a year.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    consent_lasts: Option<Duration>,
    /// Send Basiq's webhooks to this URL, such as a relay's /basiq/webhook.
    #[arg(long, value_name = "URL", requires = "webhook_secret")]
    webhook_url: Option<Url>,
    /// Sign webhooks with this secret, the relay's RELAY_BASIQ_WEBHOOK_SECRET.
    #[arg(long, value_name = "SECRET", requires = "webhook_url", value_parser = webhook_secret)]
    webhook_secret: Option<SigningSecret>,
    /// Send webhooks only for these events, separated by commas, or `all`. By default, for new data, and for
    /// consents, connections and users that end or will end soon.
    #[arg(long, value_name = "EVENTS", requires = "webhook_url", value_parser = webhook_events)]
    webhook_events: Option<WebhookEvents>,
    /// Fail on purpose; you can give this option more than once.
    #[arg(long = "fault", value_name = "FAULT", long_help = ALLOWED_FAULTS)]
    faults: Vec<Fault>,
}

fn webhook_secret(text: &str) -> Result<SigningSecret, String> {
    SigningSecret::of_another(text).map_err(|error| error.to_string())
}

/// The events whose webhooks are sent.
#[derive(Debug, Clone)]
struct WebhookEvents(Vec<SandboxEventType>);

fn webhook_events(text: &str) -> Result<WebhookEvents, String> {
    if text == "all" {
        return Ok(WebhookEvents(SandboxEventType::ALL.to_vec()));
    }
    let names = text.split(',').map(|name| name.trim().parse());
    let events: Result<Vec<_>, _> = names.collect();
    events.map(WebhookEvents).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| *duration >= Duration::from_secs(1))
        .ok_or_else(|| "allowed are durations from `1s`, such as `10m`, `24h` or `7d`".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=10_000.0).contains(&speed) => Ok(speed),
        _ => Err("allowed are numbers from 0.01 to 10000".to_owned()),
    }
}

fn options(args: SandboxArgs) -> SandboxOptions {
    let mut options = SandboxOptions {
        speed: args.speed,
        faults: args.faults,
        refresh_every: args.refresh_every,
        ..SandboxOptions::default()
    };
    let webhook = args.webhook_url.zip(args.webhook_secret);
    options.webhook = webhook.map(|(url, secret)| SandboxWebhook { url, secret });
    if let Some(WebhookEvents(events)) = args.webhook_events {
        options.webhook_events = events;
    }
    if let Some(lasts) = args.consent_lasts {
        options.consent_lasts = lasts;
    }
    options.update_retries.succeeds_on = args.update_succeeds_on;
    options
}

/// Lists what can be done with a sandbox: its logins, its banks, and the relay that uses it.
fn describe(address: SocketAddr) -> String {
    let base = format!("http://{address}");
    let logins = SandboxLogin::all().map(|login| {
        let result = match (login.fails_with, login.refresh_fails_with) {
            (Some(code), _) => format!("fails: {code}"),
            (None, Some(code)) => format!("works; a refresh fails: {code}"),
            (None, None) => "works".to_owned(),
        };
        format!("  {:<17}{:<15}{result}", login.id, login.password)
    });
    let logins = logins.collect::<Vec<_>>().join("\n");
    format!(
        "Basiq sandbox on {base} (stop with Ctrl-C)\n\n\
         \u{20} login            password       at a bank that asks no challenge, such as AU00000\n\
         {logins}\n\n\
         \u{20} banks      {base}/connectors (AU00002 always asks for the code 1234)\n\
         \u{20} users      {base}/users\n\
         \u{20} webhooks   {base}/events\n\
         \u{20} a relay    RELAY_BASIQ_URL={base} RELAY_BASIQ_API_KEY=any {NAME} serve\n"
    )
}

pub(super) async fn run(args: SandboxArgs) -> Result<(), CommandFailure> {
    let telemetry = telemetry::init(&Settings::default().log).map_err(CommandFailure::usage)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {} (set by --listen)", args.listen))?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    let sandbox = Sandbox::new(options(args), Clock::system());
    output::line(describe(address))?;
    let stop = CancellationToken::new();
    let serve = sandbox.serve(listener, stop.clone());
    let on_signal = async {
        let heard = relay_runtime::signalled().await;
        stop.cancel();
        heard
    };
    let (served, heard) = tokio::join!(serve, on_signal);
    drop(telemetry);
    served.context("the sandbox stopped")?;
    heard.context("signals cannot be received")?;
    Ok(())
}
