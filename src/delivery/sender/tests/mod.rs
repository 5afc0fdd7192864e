//! Tests of single attempts against fake hosts on loopback.

mod client_auth;
mod connecting;

use relay_domain::SigningSecret;
use relay_store::DeliverySigner;

use super::{
    reply::{KEEP_AT_MOST, printable},
    *,
};
use crate::config::EgressProxy;
use crate::delivery::fakes::{
    FakeHost, FakeProxy, FakeResolver, FakeTls, HostReply as Play, due, local_config, now,
};

async fn try_once(host: &FakeHost) -> CallbackResponse {
    try_with(
        &host.url("app.example"),
        &FakeResolver::always(&["127.0.0.1"]),
    )
    .await
}

async fn try_with(url: &str, names: &FakeResolver) -> CallbackResponse {
    let sender = CallbackSender::new(&local_config(), Arc::new(names.clone())).unwrap();
    attempt(&sender, &due(url)).await
}

async fn attempt(sender: &CallbackSender, due: &DueDelivery) -> CallbackResponse {
    match sender.attempt(due, now()).await {
        AttemptOutcome::Answered(answer) => answer,
        AttemptOutcome::NoPermit => panic!("there is room"),
        AttemptOutcome::NoResources(cause) => panic!("{cause}"),
    }
}

#[tokio::test]
async fn the_status_decides() {
    for (status, error) in [
        ("200 OK", None),
        ("204 No Content", None),
        ("302 Found", Some(AttemptError::Redirected)),
        ("304 Not Modified", Some(AttemptError::Redirected)),
        ("404 Not Found", Some(AttemptError::Refused)),
        ("410 Gone", Some(AttemptError::Refused)),
        ("500 Internal Server Error", Some(AttemptError::Refused)),
    ] {
        let host = FakeHost::plays(Play::Status(status)).await;
        let answer = try_once(&host).await;
        assert_eq!(answer.attempt.error, error, "{status}");
        let told = answer.attempt.status.unwrap().to_string();
        assert!(status.starts_with(&told), "{status}");
        assert_eq!(host.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn the_request_is_signed_json_from_the_relay() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let answer = try_once(&host).await;
    let request = host.requests().remove(0);
    for expected in [
        "POST /hooks?token=hidden HTTP/1.1",
        "content-type: application/json",
        "webhook-id: evt_",
        "webhook-timestamp: 1795425268",
        "webhook-signature: v1,",
        concat!("user-agent: basiq-relay/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(request.contains(expected), "{expected} in {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"status\":\"failed\"}"));
    assert!(!request.contains("cookie") && !request.contains("referer"));
    assert_eq!(
        (answer.attempt.number, answer.attempt.started_at),
        (1, now())
    );
}

#[tokio::test]
async fn an_old_secret_signs_until_its_time_has_passed() {
    let mut due = due("https://app.example/");
    let (secret, old) = (SigningSecret::generate(), SigningSecret::generate());
    for (until, signatures) in [("2026-11-24T00:00:00Z", 2), ("2026-11-23T09:14:28Z", 1)] {
        due.signer = DeliverySigner::Relay {
            secret: secret.clone(),
            previous: Some((old.clone(), until.parse().unwrap())),
        };
        let request = SignedMessage::of(&due).request(now()).unwrap();
        let text = request.headers()["webhook-signature"].to_str().unwrap();
        assert_eq!(text.split(' ').count(), signatures, "{until}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_sets_no_cookie() {
    let target = FakeHost::plays(Play::Status("200 OK")).await;
    let host = FakeHost::plays(Play::Redirect(target.url("127.0.0.1"))).await;
    let answer = try_once(&host).await;
    assert_eq!(answer.attempt.error, Some(AttemptError::Redirected));
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn failures_to_answer_are_told_apart() {
    for (play, error) in [
        (Play::Hang, AttemptError::TimedOut),
        (Play::HangUp, AttemptError::Broken),
        (Play::Raw("SSH-2.0-OpenSSH_9.6\r\n"), AttemptError::Broken),
        (
            Play::Raw("HTTP/1.1 200 OK\r\nx-half: "),
            AttemptError::Broken,
        ),
    ] {
        let host = FakeHost::plays(play.clone()).await;
        let answer = try_once(&host).await;
        assert_eq!(answer.attempt.error, Some(error), "{play:?}");
        assert_eq!(answer.attempt.status, None, "{play:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_no_tls_server_or_not_there_is_told_apart() {
    let names = FakeResolver::always(&["127.0.0.1"]);
    for play in [Play::Status("200 OK"), Play::HangUp] {
        let host = FakeHost::plays(play).await;
        let url = host.url("app.example").replace("http://", "https://");
        let answer = try_with(&url, &names).await;
        assert_eq!(answer.attempt.error, Some(AttemptError::Tls), "{url}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://app.example:{}/", free.local_addr().unwrap().port());
    drop(free);
    let answer = try_with(&gone, &names).await;
    assert_eq!(answer.attempt.error, Some(AttemptError::Connect));
    let unknown = try_with("http://nowhere.example/", &FakeResolver::unknown()).await;
    assert_eq!(unknown.attempt.error, Some(AttemptError::Dns));
}

#[tokio::test]
async fn a_success_whose_body_does_not_end_is_a_success() {
    for play in [Play::Endless, Play::Drip, Play::CutShort] {
        let host = FakeHost::plays(play.clone()).await;
        let answer = try_once(&host).await;
        let attempt = answer.attempt;
        assert_eq!(
            (attempt.status, attempt.error),
            (Some(200), None),
            "{play:?}"
        );
        assert!(attempt.duration < Duration::from_secs(2), "{play:?}");
        let response = attempt.response.unwrap();
        assert!((1..=KEEP_AT_MOST).contains(&response.len()), "{play:?}");
    }
}

#[tokio::test]
async fn a_private_address_behind_a_name_is_never_connected_to() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let mut config = local_config();
    config.allow_networks = Vec::new();
    for (resolved, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]"),
        ("10.0.0.1", "2130706433"),
    ] {
        let names = Arc::new(FakeResolver::always(&[resolved]));
        let sender = CallbackSender::new(&config, names).unwrap();
        let by_name = attempt(&sender, &due(&host.url("app.example"))).await;
        assert_eq!(by_name.attempt.error, Some(AttemptError::AddressRefused));
        let direct = attempt(&sender, &due(&host.url(address))).await;
        assert_eq!(direct.attempt.error, Some(AttemptError::AddressRefused));
    }
    assert_eq!(host.connections(), 0);
}

#[tokio::test]
async fn a_name_that_moves_to_a_private_address_is_refused_from_then_on() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let mut config = local_config();
    config.allow_networks = vec!["127.0.0.1/32".parse().unwrap()];
    let names = Arc::new(FakeResolver::in_turn(&["127.0.0.1", "127.0.0.2"]));
    let sender = CallbackSender::new(&config, names).unwrap();
    let due = due(&host.url("app.example"));
    let first = attempt(&sender, &due).await;
    assert_eq!(first.attempt.error, None);
    let second = attempt(&sender, &due).await;
    assert_eq!(second.attempt.error, Some(AttemptError::AddressRefused));
    assert_eq!(host.connections(), 1);
}

#[tokio::test]
async fn plain_http_needs_to_be_allowed() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let mut config = local_config();
    config.allow_http = false;
    let names = Arc::new(FakeResolver::always(&["127.0.0.1"]));
    let sender = CallbackSender::new(&config, names).unwrap();
    let answer = attempt(&sender, &due(&host.url("app.example"))).await;
    assert_eq!(answer.attempt.error, Some(AttemptError::AddressRefused));
    assert_eq!(host.connections(), 0);
}

#[test]
fn a_ca_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for content in [None, Some(""), Some("not a certificate")] {
        let path = folder.path().join("ca.pem");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let mut config = local_config();
        config.ca_file = Some(path);
        let refused = CallbackSender::new(&config, Arc::new(FakeResolver::unknown())).err();
        let told = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(told.starts_with("RELAY_CALLBACK_CA_FILE: "), "{told}");
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_by_the_ca_file_and_only_for_its_name() {
    let tls = FakeTls::for_name("app.example").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &tls.ca).unwrap();
    for (ca_file, host, error) in [
        (Some(path.clone()), "app.example", None),
        (Some(path), "other.example", Some(AttemptError::Tls)),
        (None, "app.example", Some(AttemptError::Tls)),
    ] {
        let mut config = local_config();
        config.ca_file = ca_file;
        (config.allow_http, config.timeout) = (false, Duration::from_secs(5));
        let names = Arc::new(FakeResolver::always(&["127.0.0.1"]));
        let sender = CallbackSender::new(&config, names).unwrap();
        let due = due(&format!("https://{host}:{}/", tls.port));
        let answer = attempt(&sender, &due).await;
        assert_eq!(answer.attempt.error, error, "{host}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_with_those_who_offer_it() {
    let folder = tempfile::tempdir().unwrap();
    for (offered, spoken) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let tls = FakeTls::offering("app.example", &[offered]).await;
        let mut config = local_config();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, &tls.ca).unwrap();
        (config.ca_file, config.timeout) = (Some(path), Duration::from_secs(5));
        let names = Arc::new(FakeResolver::always(&["127.0.0.1"]));
        let sender = CallbackSender::new(&config, names).unwrap();
        let due = due(&format!("https://app.example:{}/", tls.port));
        for _ in 0..3 {
            let answer = attempt(&sender, &due).await.attempt;
            assert_eq!(
                (answer.status, answer.error),
                (Some(200), None),
                "{offered}"
            );
            assert_eq!(answer.response.as_deref(), Some(spoken));
        }
    }
}

#[tokio::test]
async fn odd_answers_are_read_for_their_status() {
    let broken = Some(AttemptError::Broken);
    for (answer, status, error) in [
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some(200),
            None,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            Some(204),
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmore than two",
            Some(200),
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            None,
            broken,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            None,
            broken,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n",
            Some(200),
            None,
        ),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", Some(200), None),
        ("HTTP/1.1 000 Zero\r\n\r\n", None, broken),
        ("\u{0}\u{1}\u{2}", None, broken),
    ] {
        let host = FakeHost::plays(Play::Raw(answer)).await;
        let told = try_once(&host).await.attempt;
        assert_eq!((told.status, told.error), (status, error), "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let host = FakeHost::plays(Play::EndlessHead).await;
    let told = try_once(&host).await.attempt;
    assert_eq!(
        (told.status, told.error),
        (None, Some(AttemptError::Broken))
    );
}

#[tokio::test]
async fn a_proxy_is_given_the_vetted_address_and_never_a_name() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let proxy = FakeProxy::answering("200 OK").await;
    let mut config = local_config();
    config.proxy = proxy.setting();
    // an attempt resolves the name only once, so the first attempt never sees the second address
    let names = Arc::new(FakeResolver::in_turn(&["127.0.0.1", "10.0.0.1"]));
    let sender = CallbackSender::new(&config, names).unwrap();
    let due = due(&host.url("app.example"));
    let first = attempt(&sender, &due).await.attempt;
    assert_eq!((first.status, first.error), (Some(200), None));
    let heads = proxy.asked();
    let port = host.port();
    assert!(
        heads[0].starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")),
        "{heads:?}"
    );
    assert!(heads[0].contains("Basic cmVsYXk6d29yZA==") && !heads[0].contains("app.example"));
    let second = attempt(&sender, &due).await.attempt;
    assert_eq!(second.error, Some(AttemptError::AddressRefused));
    assert_eq!((proxy.asked().len(), host.connections()), (1, 1));
}

#[tokio::test]
async fn a_private_address_is_not_asked_of_a_proxy() {
    let proxy = FakeProxy::answering("200 OK").await;
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let mut config = local_config();
    (config.proxy, config.allow_networks) = (proxy.setting(), Vec::new());
    for (resolved, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]"),
        ("fd00::1", "0x7f.1"),
    ] {
        let names = Arc::new(FakeResolver::always(&[resolved]));
        let sender = CallbackSender::new(&config, names).unwrap();
        for url in [host.url("app.example"), host.url(address)] {
            let told = attempt(&sender, &due(&url)).await.attempt;
            assert_eq!(told.error, Some(AttemptError::AddressRefused), "{url}");
        }
    }
    assert_eq!((proxy.asked().len(), host.connections()), (0, 0));
}

#[tokio::test]
async fn a_proxy_that_fails_is_told_from_a_callback_that_does() {
    for (status, error) in [
        ("407 Proxy Authentication Required", AttemptError::Proxy),
        ("502 Bad Gateway", AttemptError::Connect),
    ] {
        let proxy = FakeProxy::answering(status).await;
        let mut config = local_config();
        config.proxy = proxy.setting();
        let sender =
            CallbackSender::new(&config, Arc::new(FakeResolver::always(&["127.0.0.1"]))).unwrap();
        let told = attempt(&sender, &due("http://app.example/")).await.attempt;
        assert_eq!((told.status, told.error), (None, Some(error)), "{status}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = local_config();
    config.proxy = EgressProxy::parse(&format!("http://{}", free.local_addr().unwrap()));
    drop(free);
    let sender =
        CallbackSender::new(&config, Arc::new(FakeResolver::always(&["127.0.0.1"]))).unwrap();
    let told = attempt(&sender, &due("http://app.example/")).await.attempt;
    assert_eq!(told.error, Some(AttemptError::Proxy));
}

#[test]
fn kept_text_is_short_and_printable() {
    assert_eq!(printable(b"a\x00b\x1b[31m\r\nc\xff"), "ab[31m\nc\u{fffd}");
    let text = printable("é".repeat(2000).as_bytes());
    assert_eq!(text.len(), KEEP_AT_MOST);
    assert!(printable(&[0xff; 1024]).len() <= KEEP_AT_MOST);
}
