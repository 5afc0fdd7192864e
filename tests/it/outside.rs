//! Addresses from outside, as people, browsers and attackers write them. Tables say which are accepted.

use std::{io, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use basiq_relay::delivery::{AddressGuard, NameResolver, NoAddress};
use relay_domain::{AllowedNetworks, CallbackRules, CallbackUrl};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{TestApp, process::binary};

/// Starts a relay that sends only to the public internet.
async fn public() -> TestApp {
    let builder = TestApp::builder().settings(|settings| {
        settings.delivery.allow_http = false;
        settings.delivery.allow_networks.clear();
    });
    builder.build().await
}

/// A URL, the expected result (`accepted` or a part of the message), and the reason for the row.
type Url = (String, String, String);

fn urls() -> Vec<Url> {
    serde_json::from_str(include_str!("../outside/urls.json")).unwrap()
}

/// Returns the message of the single fault in a problem. The fault must be about the callback.
fn told(problem: &Value) -> String {
    let faults = problem["errors"].as_array().unwrap();
    let [fault] = faults.as_slice() else {
        panic!("one fault: {problem}");
    };
    let pointer = fault["pointer"].as_str().unwrap();
    assert!(pointer.ends_with("/callbackUrl"), "{problem}");
    fault["message"].as_str().unwrap().to_owned()
}

/// Returns whether a response matches the table.
fn agrees(expected: &str, status: u64, problem: &Value) -> bool {
    match status {
        202 => expected == "accepted",
        422 => told(problem).contains(expected),
        _ => false,
    }
}

#[tokio::test]
async fn every_url_of_the_table_is_taken_or_refused_with_its_reason_one_by_one_and_in_a_batch() {
    let mut app = public().await;
    let mut wrong = Vec::new();
    for (number, (url, expected, why)) in urls().iter().enumerate() {
        let body = json!({ "jobId": format!("j-{number}"), "callbackUrl": url });
        let answer = app.post("/watch", &body).await;
        if !agrees(expected, answer.status.into(), &answer.body) {
            wrong.push(format!(
                "{url:?} ({why}): {} {}",
                answer.status, answer.text
            ));
        }
    }
    for (chunk, urls) in urls().chunks(100).enumerate() {
        let watches = urls.iter().enumerate().map(|(number, (url, ..))| {
            json!({ "jobId": format!("b-{chunk}-{number}"), "callbackUrl": url })
        });
        let body = json!({ "watches": watches.collect::<Vec<_>>() });
        let answer = app.post("/watch/batch", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let items = answer.body["items"].as_array().unwrap();
        for (item, (url, expected, why)) in items.iter().zip(urls) {
            let status = item["status"].as_u64().unwrap();
            let agreed = agrees(expected, status, &item["problem"]);
            let told = (!agreed).then(|| format!("{url:?} ({why}), in a batch: {item}"));
            wrong.extend(told);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.leave_work();
}

/// A host in a URL, the addresses of its name, and the expected results.
#[derive(Deserialize)]
struct Host(String, Vec<String>, String, String, String);

fn hosts() -> Vec<Host> {
    serde_json::from_str(include_str!("../outside/addresses.json")).unwrap()
}

/// A resolver that returns these addresses for each name.
struct Names(Vec<IpAddr>);

#[async_trait]
impl NameResolver for Names {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}

/// Returns the addresses that an attempt may connect to.
async fn connected(host: &str, found: &[String]) -> Vec<IpAddr> {
    let found = found.iter().filter_map(|text| text.parse().ok()).collect();
    let guard = AddressGuard::new(Arc::new(Names(found)), AllowedNetworks::default());
    let url = CallbackUrl::from_stored(&format!("https://{host}/")).unwrap();
    match guard.vet(&url).await {
        Ok(addresses) => addresses,
        Err(NoAddress::Refused) => Vec::new(),
        Err(NoAddress::Unresolved(error)) => panic!("{host}: {error}"),
    }
}

#[tokio::test]
async fn every_host_of_the_table_that_leads_inside_is_refused_at_registration_or_by_the_guard() {
    let mut app = public().await;
    let mut wrong = Vec::new();
    for (number, Host(host, found, registered, guarded, why)) in hosts().iter().enumerate() {
        let callback = format!("https://{host}/hook");
        let body = json!({ "jobId": format!("j-{number}"), "callbackUrl": callback });
        let answer = app.post("/watch", &body).await;
        let connected = connected(host, found).await;
        let verdict = if connected.is_empty() {
            "refused"
        } else {
            "reached"
        };
        if answer.status.to_string() != *registered || verdict != guarded {
            wrong.push(format!(
                "{host} ({why}): {}, connects to {connected:?}",
                answer.text
            ));
        }
        let inside = connected.iter().find(|address| address.is_loopback());
        assert_eq!(inside, None, "{host}");
        if registered == "422" {
            assert!(told(&answer.body).contains("private or reserved"), "{host}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.leave_work();
}

#[test]
fn networks_that_are_allowed_by_name_are_reached_in_tunnels_too() {
    let rules = |network: &str| CallbackRules {
        allow_http: false,
        allowed_networks: AllowedNetworks::new(vec![network.parse().unwrap()]),
    };
    for (network, host) in [
        ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
        ("10.0.0.0/8", "[64:ff9b::a01:203]"),
        ("64:ff9b::/96", "[64:ff9b::101:101]"),
        ("2002::/16", "[2002:5db8:d822::1]"),
    ] {
        let parsed = CallbackUrl::parse(&format!("https://{host}/"), &rules(network));
        assert!(parsed.is_ok(), "{host} in {network}: {parsed:?}");
    }
}

#[tokio::test]
async fn addresses_in_settings_that_cannot_be_called_are_refused_at_start() {
    for (setting, value) in [
        ("RELAY_BASIQ_URL", "https://exa{m}ple.com"),
        ("RELAY_BASIQ_URL", "https://au-api..basiq.io"),
        ("RELAY_PUBLIC_URL", "https://relay.example:0"),
        ("RELAY_EGRESS_PROXY", "http://pro`xy:3128"),
        (
            "RELAY_EGRESS_PROXY",
            "http://user:hunter2@proxy..internal:3128",
        ),
    ] {
        let mut command = binary();
        command
            .arg("serve")
            .env("RELAY_BASIQ_API_KEY", "a-key")
            .env(setting, value);
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{setting}={value}: {said}");
        assert!(
            said.contains(setting) && !said.contains("hunter2"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn all_that_is_wrong_with_a_callback_is_told_at_once() {
    let mut app = public().await;
    let body = json!({ "jobId": "j-1", "callbackUrl": "http://127.0.0.1:8091/hook#top" });
    let answer = app.post("/watch", &body).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let errors = answer.body["errors"].as_array().unwrap();
    let messages: Vec<_> = errors
        .iter()
        .map(|error| error["message"].as_str().unwrap())
        .collect();
    for (message, expected) in messages.iter().zip([
        "`callbackUrl` must begin with `https://`, not `http:`; ",
        "`callbackUrl` must not lead to the private or reserved address `127.0.0.1`; ",
        "`callbackUrl` must not have a fragment",
    ]) {
        assert!(message.starts_with(expected), "{message}");
    }
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(
        errors
            .iter()
            .all(|error| error["pointer"] == "/callbackUrl")
    );
    let body = json!({ "jobId": "j-1", "callbackUrl": "http://me:hunter2@10.0.0.1/" });
    let answer = app.post("/watch", &body).await;
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 3);
    assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    let body = json!({ "jobId": "j-1", "callbackUrl": "app.example/hook" });
    let answer = app.post("/watch", &body).await;
    assert!(
        answer.text.contains("must begin with `https://`"),
        "{}",
        answer.text
    );
    app.leave_work();
}
