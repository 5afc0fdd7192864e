//! Tests of the connections that attempts use. A new connection goes to the first address that answers; usable
//! connections are kept.

use super::*;
use crate::delivery::fakes::{HostAction, KeepingHost, SilentPort};

const ANSWERS: &[HostAction] = &[HostAction::Answer; 9];

fn sender(names: &FakeResolver, proxy: Option<EgressProxy>) -> CallbackSender {
    let mut config = local_config();
    (config.timeout, config.proxy) = (Duration::from_secs(5), proxy);
    CallbackSender::new(&config, Arc::new(names.clone())).unwrap()
}

async fn errors(sender: &CallbackSender, url: &str, attempts: usize) -> Vec<Option<AttemptError>> {
    let mut errors = Vec::new();
    for _ in 0..attempts {
        errors.push(attempt(sender, &due(url)).await.attempt.error);
    }
    errors
}

#[tokio::test]
async fn an_address_that_swallows_packets_costs_a_quarter_of_a_second() {
    let good = KeepingHost::does(&[ANSWERS]).await;
    let _swallows = SilentPort::at(&format!("127.0.0.2:{}", good.port())).await;
    let names = FakeResolver::always(&["127.0.0.2", "127.0.0.1"]);
    let proxy = FakeProxy::answering("200 OK").await;
    let url = format!("http://app.example:{}/", good.port());
    for proxy in [None, proxy.setting()] {
        let told = attempt(&sender(&names, proxy), &due(&url)).await.attempt;
        assert_eq!(told.error, None);
        let took = told.duration.as_millis();
        assert!((250..1000).contains(&took), "{took} ms");
    }
    let heads = proxy.asked();
    for (head, address) in heads.iter().zip(["127.0.0.2", "127.0.0.1"]) {
        assert!(
            head.starts_with(&format!("CONNECT {address}:")),
            "{heads:?}"
        );
    }
}

#[tokio::test]
async fn only_vetted_addresses_take_part_in_the_race() {
    let good = KeepingHost::does(&[ANSWERS]).await;
    let _swallows = SilentPort::at(&format!("127.0.0.2:{}", good.port())).await;
    let mut config = local_config();
    (config.timeout, config.allow_networks) = (
        Duration::from_millis(600),
        vec!["127.0.0.2/32".parse().unwrap()],
    );
    let names = FakeResolver::always(&["127.0.0.2", "127.0.0.1"]);
    let sender = CallbackSender::new(&config, Arc::new(names)).unwrap();
    let due = due(&format!("http://app.example:{}/", good.port()));
    let told = attempt(&sender, &due).await.attempt;
    assert_eq!(told.error, Some(AttemptError::TimedOut));
    assert_eq!(good.connections(), 0);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_attempts() {
    let host = KeepingHost::does(&[ANSWERS]).await;
    let sender = sender(&FakeResolver::always(&["127.0.0.1"]), None);
    let url = format!("http://app.example:{}/", host.port());
    assert_eq!(errors(&sender, &url, 5).await, [None; 5]);
    assert_eq!((host.connections(), host.messages().len()), (1, 5));
    let other = format!("http://other.example:{}/", host.port());
    assert_eq!(errors(&sender, &other, 2).await, [None; 2]);
    assert_eq!(host.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_turns_out_closed_is_replaced_at_once() {
    let host = KeepingHost::does(&[&[HostAction::Answer, HostAction::Close], ANSWERS]).await;
    let sender = sender(&FakeResolver::always(&["127.0.0.1"]), None);
    let url = format!("http://app.example:{}/", host.port());
    assert_eq!(errors(&sender, &url, 3).await, [None; 3]);
    let messages = host.messages();
    assert_eq!((host.connections(), messages.len()), (2, 4));
    assert_eq!(messages[1], messages[2]);
    assert!(messages[0] != messages[1] && messages[2] != messages[3]);
}

#[tokio::test]
async fn an_event_is_sent_again_once_an_attempt_and_only_without_a_byte_of_an_answer() {
    const NEW_ONE_CLOSES: &[&[HostAction]] = &[&[HostAction::Close]];
    const BOTH_CLOSE: &[&[HostAction]] = &[
        &[HostAction::Answer, HostAction::Close],
        &[HostAction::Close],
    ];
    const ANSWER_BEGAN: &[&[HostAction]] = &[&[HostAction::Answer, HostAction::BreakOff], ANSWERS];
    for (deeds, messages) in [(NEW_ONE_CLOSES, 1), (BOTH_CLOSE, 3), (ANSWER_BEGAN, 2)] {
        let host = KeepingHost::does(deeds).await;
        let sender = sender(&FakeResolver::always(&["127.0.0.1"]), None);
        let url = format!("http://app.example:{}/", host.port());
        let told = errors(&sender, &url, deeds[0].len()).await;
        assert_eq!(told.last(), Some(&Some(AttemptError::Broken)), "{deeds:?}");
        assert_eq!(host.messages().len(), messages, "{deeds:?}");
    }
}

#[tokio::test]
async fn a_name_that_moved_is_not_followed_to_where_it_was() {
    let old = KeepingHost::does(&[ANSWERS]).await;
    let new = KeepingHost::at(&format!("127.0.0.2:{}", old.port()), &[ANSWERS]).await;
    let names = FakeResolver::in_turn(&["127.0.0.1", "127.0.0.1", "127.0.0.2"]);
    let sender = sender(&names, None);
    let url = format!("http://app.example:{}/", old.port());
    assert_eq!(errors(&sender, &url, 5).await, [None; 5]);
    assert_eq!((old.connections(), old.messages().len()), (1, 2));
    assert_eq!((new.connections(), new.messages().len()), (1, 3));
}

#[tokio::test]
async fn a_tunnel_is_kept_while_its_address_is_the_names() {
    let old = KeepingHost::does(&[ANSWERS]).await;
    let new = KeepingHost::at(&format!("127.0.0.2:{}", old.port()), &[ANSWERS]).await;
    let names = FakeResolver::in_turn(&["127.0.0.1", "127.0.0.1", "127.0.0.2"]);
    let proxy = FakeProxy::answering("200 OK").await;
    let sender = sender(&names, proxy.setting());
    let url = format!("http://app.example:{}/", old.port());
    assert_eq!(errors(&sender, &url, 5).await, [None; 5]);
    assert_eq!((old.messages().len(), new.messages().len()), (2, 3));
    assert_eq!(proxy.asked().len(), 2);
}

/// Returns a sender that trusts the certificate authority of `tls`.
pub(super) fn trusting(tls: &FakeTls, names: &FakeResolver) -> CallbackSender {
    trusting_through(tls, names, None)
}

/// Returns a sender that trusts the certificate authority of `tls` and uses this proxy.
pub(super) fn trusting_through(
    tls: &FakeTls,
    names: &FakeResolver,
    proxy: Option<EgressProxy>,
) -> CallbackSender {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &tls.ca).unwrap();
    let mut config = local_config();
    (config.ca_file, config.timeout) = (Some(path), Duration::from_secs(5));
    config.proxy = proxy;
    CallbackSender::new(&config, Arc::new(names.clone())).unwrap()
}

#[tokio::test]
async fn an_http_2_connection_takes_many_requests_while_its_address_is_the_names() {
    let tls = FakeTls::offering("app.example", &["h2"]).await;
    let names = FakeResolver::in_turn(&["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.3"]);
    let sender = trusting(&tls, &names);
    let url = format!("https://app.example:{}/", tls.port);
    assert_eq!(errors(&sender, &url, 1).await, [None]);
    let (one, other) = (due(&url), due(&url));
    let (one, other) = tokio::join!(attempt(&sender, &one), attempt(&sender, &other));
    assert_eq!((one.attempt.error, other.attempt.error), (None, None));
    assert_eq!(tls.connections(), 1);
    let moved = errors(&sender, &url, 1).await;
    assert_eq!(moved, [Some(AttemptError::Connect)]);
}

#[tokio::test]
async fn a_receiver_that_wants_a_certificate_fails_by_tls() {
    for protocol in ["h2", "http/1.1"] {
        let tls = FakeTls::wanting_a_certificate("app.example", protocol).await;
        let sender = trusting(&tls, &FakeResolver::always(&["127.0.0.1"]));
        let url = format!("https://app.example:{}/", tls.port);
        for _ in 0..20 {
            let told = attempt(&sender, &due(&url)).await.attempt;
            assert_eq!(told.error, Some(AttemptError::Tls), "{protocol}: {told:?}");
            let detail = told.error_detail.unwrap();
            assert!(detail.contains("CertificateRequired"), "{detail}");
        }
    }
}

#[tokio::test]
async fn the_reason_of_a_refused_certificate_is_kept() {
    let authority = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for (is_ca, reason) in [
        (authority, Some("CaUsedAsEndEntity")),
        (rcgen::IsCa::ExplicitNoCa, None),
    ] {
        let tls = FakeTls::self_signed("app.example", is_ca).await;
        let sender = trusting(&tls, &FakeResolver::always(&["127.0.0.1"]));
        let due = due(&format!("https://app.example:{}/", tls.port));
        let told = attempt(&sender, &due).await.attempt;
        assert_eq!(told.error, reason.map(|_| AttemptError::Tls));
        let detail = told.error_detail.unwrap_or_default();
        assert!(detail.contains(reason.unwrap_or_default()), "{detail}");
    }
}
