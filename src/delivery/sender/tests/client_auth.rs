//! Tests of what requests show about their client: a TLS client certificate, and static headers.

use relay_domain::{CallbackAuth, CallbackAuthPart, ClientCertificate, SecretHeaders};

use super::{
    connecting::{trusting, trusting_through},
    *,
};

/// Returns a delivery of this client with this certificate and these headers.
fn due_of(
    client: &str,
    url: &str,
    certificate: Option<&ClientCertificate>,
    headers: &str,
) -> DueDelivery {
    DueDelivery {
        client: Some(client.to_owned()),
        auth: CallbackAuth {
            certificate: certificate.cloned(),
            headers: SecretHeaders::parse(headers).unwrap_or_default(),
            unreadable: Vec::new(),
        },
        ..due(url)
    }
}

/// Makes two attempts and returns what the host answered.
async fn answers(sender: &CallbackSender, due: &DueDelivery) -> [String; 2] {
    let mut answers = [String::new(), String::new()];
    for answer in &mut answers {
        let told = attempt(sender, due).await.attempt;
        assert_eq!(told.error, None, "{told:?}");
        *answer = told.response.unwrap();
    }
    answers
}

/// Makes ten attempts that the receiver refuses because of this certificate. Each says so by one of its alerts.
async fn refused(
    sender: &CallbackSender,
    url: &str,
    certificate: Option<&ClientCertificate>,
    alert: &str,
) {
    for _ in 0..10 {
        let due = due_of("app", url, certificate, "X-Key: word");
        let response = attempt(sender, &due).await;
        assert!(response.certificate_failed, "{response:?}");
        let told = response.attempt;
        assert_eq!(told.error, Some(AttemptError::Tls), "{told:?}");
        let detail = told.error_detail.unwrap();
        assert!(detail.starts_with("the receiver accepts only"), "{detail}");
        assert!(detail.contains(alert), "{detail}");
    }
}

#[tokio::test]
async fn a_certificate_and_headers_are_shown_directly_and_through_a_proxy() {
    let proxy = FakeProxy::answering("200 OK").await;
    for (protocol, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let tls = FakeTls::wanting_a_certificate("app.example", protocol).await;
        let url = format!("https://app.example:{}/", tls.port);
        let certificate = tls.client_certificate("shop");
        for setting in [None, proxy.setting()] {
            let names = FakeResolver::always(&["127.0.0.1"]);
            let sender = trusting_through(&tls, &names, setting);
            let due = due_of("app", &url, Some(&certificate), "X-Key: word");
            // the receiver repeats the header, and its value is not kept
            let expected = format!("{version} shop ***");
            assert_eq!(answers(&sender, &due).await, [expected.clone(), expected]);
        }
        assert_eq!(tls.connections(), 2, "connections are kept");
    }
    assert_eq!(proxy.asked().len(), 2);
    let told = format!("{:?}", proxy.asked());
    assert!(
        !told.contains("word\"") && !told.contains("x-key"),
        "{told}"
    );
}

#[tokio::test]
async fn no_connection_of_a_client_is_used_for_another_or_for_another_certificate() {
    for protocol in ["h2", "http/1.1"] {
        let tls = FakeTls::wanting_a_certificate("app.example", protocol).await;
        let url = format!("https://app.example:{}/", tls.port);
        let sender = trusting(&tls, &FakeResolver::always(&["127.0.0.1"]));
        let (one, two) = (tls.client_certificate("one"), tls.client_certificate("two"));
        let mut connections = 0;
        for (client, certificate, name) in [
            ("shop", &one, " one"),
            ("bank", &two, " two"),
            // the same certificate for another client, and a new one for the first client
            ("third", &one, " one"),
            ("shop", &two, " two"),
        ] {
            let due = due_of(client, &url, Some(certificate), "");
            let told = answers(&sender, &due).await;
            assert!(told.iter().all(|answer| answer.ends_with(name)), "{told:?}");
            connections += 1;
            assert_eq!(tls.connections(), connections, "{client} {protocol}");
            // neither a kept connection nor a resumed session lets a client in that has no certificate
            let told = attempt(&sender, &due_of("bare", &url, None, "")).await;
            assert_eq!(told.attempt.error, Some(AttemptError::Tls));
            connections += 1;
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_fails_by_tls_and_says_so() {
    for protocol in ["h2", "http/1.1"] {
        let tls = FakeTls::wanting_a_certificate("app.example", protocol).await;
        let stranger = FakeTls::for_name("app.example").await;
        let wrong = stranger.client_certificate("shop");
        let sender = trusting(&tls, &FakeResolver::always(&["127.0.0.1"]));
        let url = format!("https://app.example:{}/", tls.port);
        refused(&sender, &url, None, "CertificateRequired").await;
        refused(&sender, &url, Some(&wrong), "received fatal alert").await;
    }
}

#[tokio::test]
async fn plain_http_gets_the_headers_and_none_replaces_one_of_the_relay() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let tls = FakeTls::for_name("app.example").await;
    let sender = {
        let names = FakeResolver::always(&["127.0.0.1"]);
        CallbackSender::new(&local_config(), Arc::new(names)).unwrap()
    };
    let headers = "Authorization: Bearer word\nX-Key: other word";
    let certificate = tls.client_certificate("shop");
    let due = due_of("app", &host.url("app.example"), Some(&certificate), headers);
    assert_eq!(attempt(&sender, &due).await.attempt.error, None);
    let request = host.requests().remove(0);
    for line in [
        "authorization: Bearer word\r\n",
        "x-key: other word\r\n",
        "content-type: application/json\r\n",
    ] {
        assert_eq!(request.matches(line).count(), 1, "{request}");
    }
}

#[tokio::test]
async fn a_client_whose_stored_credentials_cannot_be_read_is_not_called_without_them() {
    let host = FakeHost::plays(Play::Status("200 OK")).await;
    let names = FakeResolver::always(&["127.0.0.1"]);
    let sender = CallbackSender::new(&local_config(), Arc::new(names)).unwrap();
    let mut due = due_of("app", &host.url("app.example"), None, "X-Key: word");
    due.auth.unreadable = vec![CallbackAuthPart::Certificate];
    let response = attempt(&sender, &due).await;
    assert!(response.certificate_failed);
    let told = response.attempt;
    assert_eq!(
        (told.status, told.error),
        (None, Some(AttemptError::Internal))
    );
    assert_eq!(
        told.error_detail.as_deref(),
        Some(
            "the stored certificate of the client cannot be read; `client set-callback-auth` replaces or removes it"
        )
    );
    due.auth.unreadable.clear();
    assert_eq!(attempt(&sender, &due).await.attempt.status, Some(200));
    assert_eq!(host.requests().len(), 1);
}
