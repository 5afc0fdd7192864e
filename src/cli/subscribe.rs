//! `basiq-relay subscribe`: subscribes to a person at a running relay.

use clap::builder::PossibleValuesParser;
use http::StatusCode;
use relay_domain::{BasiqId, NoticeKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::cli::{
    colour::Painter,
    exit::CommandFailure,
    output::{self, harmless},
    progress,
    relay_client::{RelayArgs, RelayClient},
    values::callback_url,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: BASIQ_RELAY_KEY=brk_… basiq-relay subscribe 1c7ea4e4 --url https://app.example/hooks/bank
Example: basiq-relay subscribe 1c7ea4e4 --url http://127.0.0.1:8091/hook --notice consent-expiring --json

Exit codes: 0 the subscription is stored, or was already; 1 the relay is out of reach;
2 wrong usage, or the relay refused the request. `DELETE /subscriptions/{id}` ends it.")]
pub(super) struct SubscribeArgs {
    /// Basiq's id of the person.
    #[arg(value_name = "USER_ID")]
    user: BasiqId,
    /// Callback URL that receives the events of the person's jobs, and the notices.
    #[arg(long, value_name = "CALLBACK_URL", value_parser = callback_url)]
    url: Url,
    /// Basiq's id of the only connection of interest; without it, all connections of the person.
    #[arg(long, value_name = "CONNECTION_ID")]
    connection: Option<BasiqId>,
    /// Notice to send; you can give this option more than once. Without it, all notices.
    #[arg(long = "notice", value_name = "NOTICE", value_parser = notices())]
    notices: Vec<String>,
    /// Language of the messages, as a BCP 47 tag.
    #[arg(long)]
    locale: Option<String>,
    #[command(flatten)]
    relay: RelayArgs,
    /// Print the subscription as JSON.
    #[arg(long)]
    json: bool,
}

/// The fields of a subscription that are shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionDocument {
    id: String,
    user_id: String,
    callback_url: String,
}

fn notices() -> PossibleValuesParser {
    NoticeKind::ALL.iter().map(|word| word.as_str()).into()
}

pub(super) async fn run(args: SubscribeArgs) -> Result<(), CommandFailure> {
    let (relay, body) = (RelayClient::new(&args.relay)?, registration(&args));
    let registering = relay.post::<Value>("subscriptions", &body);
    let (status, document) = progress::shown("waiting for the relay", registering).await?;
    if args.json {
        return Ok(output::line(document)?);
    }
    let subscription = SubscriptionDocument::deserialize(&document)
        .map_err(|error| CommandFailure::failed(anyhow::Error::new(error)))?;
    let (paint, user) = (Painter::detect(), harmless(&subscription.user_id));
    let begins = match status {
        StatusCode::CREATED => "subscribed",
        _ => "already subscribed",
    };
    Ok(output::line(format!(
        "{begins} to {} as {}; events go to {}",
        paint.bold(user),
        harmless(&subscription.id),
        harmless(&subscription.callback_url)
    ))?)
}

/// Builds the body of `POST /subscriptions`.
fn registration(args: &SubscribeArgs) -> Value {
    let connection = args.connection.as_ref().map(BasiqId::as_str);
    let notices = (!args.notices.is_empty()).then(|| args.notices.clone().into());
    let fields: [(&str, Option<Value>); 5] = [
        ("userId", Some(args.user.as_str().into())),
        ("callbackUrl", Some(args.url.as_str().into())),
        ("connectionId", connection.map(Into::into)),
        ("notices", notices),
        ("locale", args.locale.as_deref().map(Into::into)),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}
