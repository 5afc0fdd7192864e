//! Request heads that different servers read differently, sent to a relay on a real socket.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::live::Live;

/// Sends these bytes and returns the response, until the connection ends or no more bytes come.
async fn answer(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses the request may not read all of it.
    drop(stream.write_all(request.as_bytes()).await);
    let mut text = Vec::new();
    let read = timeout(Duration::from_millis(300), stream.read_to_end(&mut text)).await;
    let ended = if read.is_ok() { " [end]" } else { "" };
    format!("{}{ended}", String::from_utf8_lossy(&text))
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_read_as_rfc_9112_has_it() {
    let live = Live::start(|_| ()).await;
    let address = live.address();
    let get = |head: &str| format!("GET /healthz HTTP/1.1\r\n{head}\r\n");
    let post =
        |head: &str, body: &str| format!("POST /watch HTTP/1.1\r\nHost: relay\r\n{head}\r\n{body}");
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    let cases = [
        ("one Host", get("Host: relay\r\n"), "200"),
        ("an empty Host", get("Host:\r\n"), "200"),
        ("an IPv6 Host", get("Host: [::1]:8080\r\n"), "200"),
        ("no Host", get(""), "400"),
        ("two Hosts", get("Host: relay\r\nHost: relay\r\n"), "400"),
        (
            "two Hosts that differ",
            get("Host: relay\r\nhost: other\r\n"),
            "400",
        ),
        ("a Host with a path", get("Host: relay/x\r\n"), "400"),
        ("a Host with a user", get("Host: me@relay\r\n"), "400"),
        ("a Host with a space", get("Host: re lay\r\n"), "400"),
        ("a list of Hosts", get("Host: relay, other\r\n"), "400"),
        (
            "HTTP/1.0 without Host",
            "GET /healthz HTTP/1.0\r\n\r\n".to_owned(),
            "200",
        ),
        (
            "HTTP/1.0 with two Hosts",
            "GET /healthz HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "an absolute target with another Host",
            "GET http://relay/healthz HTTP/1.1\r\nHost: other\r\n\r\n".to_owned(),
            "200",
        ),
        ("a space before a colon", get("Host : relay\r\n"), "400"),
        (
            "a space before a name",
            get("Host: relay\r\n X: 1\r\n"),
            "400",
        ),
        (
            "a folded header",
            get("Host: relay\r\nX: 1\r\n 2\r\n"),
            "400",
        ),
        (
            "a bare CR in a value",
            get("Host: relay\r\nX: 1\r2\r\n"),
            "400",
        ),
        ("a NUL in a value", get("Host: relay\r\nX: 1\0\r\n"), "400"),
        (
            "a header without a colon",
            get("Host: relay\r\nX\r\n"),
            "400",
        ),
        ("an empty name", get("Host: relay\r\n: 1\r\n"), "400"),
        (
            "chunked",
            post("Transfer-Encoding: chunked\r\n", chunks),
            "401",
        ),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked, chunked\r\n", chunks),
            "400",
        ),
        (
            "chunked on two lines",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                chunks,
            ),
            "400",
        ),
        (
            "another coding",
            post("Transfer-Encoding: gzip, chunked\r\n", chunks),
            "400",
        ),
        (
            "chunked and another",
            post("Transfer-Encoding: chunked, gzip\r\n", chunks),
            "400",
        ),
        (
            "identity",
            post("Transfer-Encoding: identity\r\n", "{}"),
            "400",
        ),
        ("no coding", post("Transfer-Encoding:\r\n", chunks), "400"),
        (
            "chunked in HTTP/1.0",
            format!("POST /watch HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
            "400",
        ),
        (
            "two lengths that differ",
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
            "400",
        ),
        (
            "a list of lengths",
            post("Content-Length: 2, 2\r\n", "{}"),
            "400",
        ),
        (
            "a length with a sign",
            post("Content-Length: +2\r\n", "{}"),
            "400",
        ),
        (
            "a negative length",
            post("Content-Length: -2\r\n", "{}"),
            "400",
        ),
        (
            "a length in hexadecimal",
            post("Content-Length: 0x2\r\n", "{}"),
            "400",
        ),
        (
            "a length beyond all",
            post("Content-Length: 99999999999999999999\r\n", "{}"),
            "400",
        ),
    ];
    for (words, request, status) in cases {
        let answer = answer(&address, &request).await;
        let begins = format!("HTTP/1.1 {status} ");
        let begins_old = format!("HTTP/1.0 {status} ");
        let is_so = answer.starts_with(&begins) || answer.starts_with(&begins_old);
        assert!(is_so, "{words}: {status} is right\n{answer}");
        if status == "400" {
            assert!(
                answer.ends_with("[end]"),
                "{words}: it stays open\n{answer}"
            );
        }
    }
    // RFC 9112 lets a server use the transfer coding if it closes the connection. The bytes after it must not be read
    // as a second request.
    let both = post(
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        chunks,
    );
    let smuggled = get("Host: relay\r\n");
    let answer = answer(&address, &format!("{both}{smuggled}")).await;
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("[end]"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_refused_is_a_problem_that_says_why() {
    let live = Live::start(|_| ()).await;
    let text = answer(&live.address(), "GET /healthz HTTP/1.1\r\n\r\n").await;
    for part in [
        "application/problem+json",
        "x-request-id",
        "/problems/bad-request",
        "no `Host`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    live.stop().await;
}
