//! A name has several addresses, and one of them drops packets.

use std::time::Instant;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::TcpStream,
};

use super::*;
use crate::support::{
    own_network::{OwnNetwork, in_own_network},
    process::binary,
};

#[test]
fn an_event_arrives_at_the_first_attempt_although_an_address_swallows_packets() {
    in_own_network(
        "network::addresses::an_event_arrives_at_the_first_attempt_although_an_address_swallows_packets",
        async |mut network| {
            OwnNetwork::swallow(SWALLOWS);
            network.dns.set("app.test", &[SWALLOWS, GOOD]);
            network.dns.set("basiq.test", &[GOOD]);
            let scene = Relaying::start("basiq.test", Vec::new()).await;
            let basiq = scene.sandbox.router();
            serve(&mut network.tasks, GOOD, BASIQ_PORT, basiq).await;
            let hook = receiver(&mut network.tasks, GOOD).await;
            let watch = scene.watch("j-1", "app.test").await;
            let attempt = scene.first_attempt(&watch).await;
            assert_accepted_soon(&attempt);
            assert!(attempt["durationMs"].as_u64() >= Some(250), "{attempt}");
            assert_eq!(hook.requests(), 1);
        },
    );
}

#[test]
fn basiq_is_asked_at_once_although_an_address_swallows_packets() {
    in_own_network(
        "network::addresses::basiq_is_asked_at_once_although_an_address_swallows_packets",
        async |mut network| {
            OwnNetwork::swallow(SWALLOWS);
            network.dns.set("app.test", &[GOOD]);
            network.dns.set("basiq.test", &[SWALLOWS, GOOD]);
            let scene = Relaying::start("basiq.test", Vec::new()).await;
            let basiq = scene.sandbox.router();
            serve(&mut network.tasks, GOOD, BASIQ_PORT, basiq).await;
            receiver(&mut network.tasks, GOOD).await;
            let began = Instant::now();
            let watch = scene.watch("j-1", "app.test").await;
            assert_accepted_soon(&scene.first_attempt(&watch).await);
            assert!(began.elapsed() < Duration::from_secs(2));
        },
    );
}

#[test]
fn a_proxy_is_reached_and_reaches_although_addresses_swallow_packets() {
    in_own_network(
        "network::addresses::a_proxy_is_reached_and_reaches_although_addresses_swallow_packets",
        async |mut network| {
            OwnNetwork::swallow(SWALLOWS);
            network.dns.set("app.test", &[SWALLOWS, GOOD]);
            network.dns.set("proxy.test", &[SWALLOWS, OTHER]);
            network.dns.set("basiq.test", &[GOOD]);
            let listener = TcpListener::bind((OTHER, 3128)).await.unwrap();
            network.tasks.spawn(proxy(listener));
            let setting = ("RELAY_EGRESS_PROXY", "http://proxy.test:3128".to_owned());
            let scene = Relaying::start("basiq.test", vec![setting]).await;
            let basiq = scene.sandbox.router();
            serve(&mut network.tasks, GOOD, BASIQ_PORT, basiq).await;
            receiver(&mut network.tasks, GOOD).await;
            let watch = scene.watch("j-1", "app.test").await;
            assert_accepted_soon(&scene.first_attempt(&watch).await);
        },
    );
}

#[test]
fn a_relay_is_found_healthy_although_an_address_swallows_packets() {
    in_own_network(
        "network::addresses::a_relay_is_found_healthy_although_an_address_swallows_packets",
        async |network| {
            OwnNetwork::swallow(SWALLOWS);
            network.dns.set("relay.test", &[SWALLOWS, GOOD]);
            let listen = ("RELAY_LISTEN", format!("{GOOD}:0"));
            let scene = Relaying::start("basiq.test", vec![listen]).await;
            let url = scene.relay.url.replace(GOOD, "relay.test");
            let asked = binary().args(["healthcheck", "--url", &url]).output().await;
            let asked = asked.unwrap();
            let told = String::from_utf8_lossy(&asked.stderr);
            assert!(asked.status.success(), "{told}");
        },
    );
}

/// Runs a proxy that opens any requested tunnel.
async fn proxy(listener: TcpListener) {
    let mut tunnels = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        tunnels.spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            let to = head.split(' ').nth(1).unwrap();
            let mut target = TcpStream::connect(to).await.unwrap();
            let opened = b"HTTP/1.1 200 Connection established\r\n\r\n";
            stream.write_all(opened).await.unwrap();
            let copied = copy_bidirectional(&mut stream, &mut target).await;
            copied.unwrap_or_default();
        });
    }
}
