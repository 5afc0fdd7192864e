//! What a person at a terminal reads when a relay starts: its addresses, and what is switched on or off.

use std::net::SocketAddr;

use crate::{
    cli::{NAME, colour::Painter, relay_client::local_address, terminal::Screen},
    config::{DatabaseUrl, Settings, write_duration},
};

/// Where a value begins in a line.
const INDENT: usize = 13;

/// A relay that starts.
#[derive(Debug)]
pub(super) struct StartSummary<'s> {
    pub(super) settings: &'s Settings,
    pub(super) listen: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
    /// Whether no client has been added yet.
    pub(super) has_no_client: bool,
}

impl StartSummary<'_> {
    /// Describes the relay in lines that fit the screen.
    pub(super) fn describe(&self, paint: Painter, screen: &Screen) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let mut lines = vec![format!("{NAME} {version} (stop with Ctrl-C)\n")];
        let facts = self.addresses().into_iter().chain(self.switches());
        lines.extend(facts.map(|(name, value)| {
            let name = paint.dim(format!("{name:<9}"));
            screen.fit(&format!("  {name}  {value}"), INDENT)
        }));
        lines.extend(self.hints().map(|hint| screen.fit(&format!("\n{hint}"), 0)));
        lines.join("\n") + "\n"
    }

    fn addresses(&self) -> [(&'static str, String); 4] {
        let base = base(self.listen);
        let console = if self.settings.server.has_operators() {
            format!("{base}/console")
        } else {
            "off; RELAY_ADMIN_TOKEN opens it".to_owned()
        };
        let metrics = self.metrics.unwrap_or(self.listen);
        [
            ("API", base.clone()),
            ("docs", format!("{base}/docs")),
            ("console", console),
            ("metrics", format!("{}/metrics", self::base(metrics))),
        ]
    }

    fn switches(&self) -> [(&'static str, String); 6] {
        let settings = self.settings;
        let is_or = |is_on: bool, on: &str, off: &str| if is_on { on } else { off }.to_owned();
        [
            ("store", self.store()),
            (
                "Basiq",
                settings.basiq.url.as_str().trim_end_matches('/').to_owned(),
            ),
            ("callbacks", self.callbacks()),
            (
                "webhooks",
                is_or(
                    settings.basiq.webhook_secret.is_some(),
                    "Basiq's are taken at /basiq/webhook",
                    "Basiq's are not taken; RELAY_BASIQ_WEBHOOK_SECRET lets them in",
                ),
            ),
            (
                "secrets",
                is_or(
                    settings.store.encryption_key.is_some(),
                    "stored encrypted",
                    "stored unencrypted; RELAY_ENCRYPTION_KEY encrypts them",
                ),
            ),
            (
                "alerts",
                is_or(
                    settings.alerts.url.is_some(),
                    "on",
                    "off; RELAY_ALERT_URL says where they go",
                ),
            ),
        ]
    }

    fn store(&self) -> String {
        match &self.settings.store.database {
            DatabaseUrl::Sqlite(path) => path.display().to_string(),
            DatabaseUrl::Postgres(_) => "PostgreSQL".to_owned(),
        }
    }

    /// Says which callbacks are accepted, and when a failed delivery is tried again.
    fn callbacks(&self) -> String {
        let delivery = &self.settings.delivery;
        let schemes = if delivery.allow_http {
            "https:// and http://"
        } else {
            "https://"
        };
        let networks = delivery.allow_networks.iter().map(ToString::to_string);
        let networks = std::iter::once("public addresses".to_owned()).chain(networks);
        let waits = delivery.retry_schedule.iter().take(3);
        let waits = waits.map(|wait| write_duration(*wait)).collect::<Vec<_>>();
        let retried = match &*waits {
            [] => "not tried again".to_owned(),
            _ => format!("tried again after {} …", waits.join(", ")),
        };
        format!(
            "{schemes}; {}; {retried}",
            networks.collect::<Vec<_>>().join(", ")
        )
    }

    fn hints(&self) -> impl Iterator<Item = String> {
        let development = self.settings.development.then(|| {
            "DEVELOPMENT MODE (--dev): callbacks on this machine are accepted over plain HTTP, failed ones are tried \
             again after a second, and no host is paused."
                .to_owned()
        });
        let client = self.has_no_client.then(|| {
            format!("There is no client yet: `{NAME} client add NAME` prints the API key that a backend needs.")
        });
        development.into_iter().chain(client)
    }
}

/// Returns the address at which this machine reaches a listener.
fn base(listen: SocketAddr) -> String {
    format!("http://{}", local_address(listen))
}
