//! A name moves to another address while the relay uses it.

use super::*;
use crate::support::own_network::in_own_network;

#[test]
fn no_event_goes_to_where_a_callback_was() {
    in_own_network(
        "network::moves::no_event_goes_to_where_a_callback_was",
        async |mut network| {
            network.dns.set("app.test", &[GOOD]);
            network.dns.set("basiq.test", &[GOOD]);
            let scene = Relaying::start("basiq.test", Vec::new()).await;
            let basiq = scene.sandbox.router();
            serve(&mut network.tasks, GOOD, BASIQ_PORT, basiq).await;
            let old = receiver(&mut network.tasks, GOOD).await;
            let new = receiver(&mut network.tasks, OTHER).await;
            for (number, place) in [GOOD, GOOD, OTHER, OTHER, GOOD].iter().enumerate() {
                network.dns.set("app.test", &[place]);
                let watch = scene.watch(&format!("j-{number}"), "app.test").await;
                assert_accepted_soon(&scene.first_attempt(&watch).await);
            }
            assert_eq!((old.requests(), new.requests()), (3, 2));
        },
    );
}

#[test]
fn calls_follow_basiq_within_seconds() {
    in_own_network(
        "network::moves::calls_follow_basiq_within_seconds",
        async |mut network| {
            network.dns.set("app.test", &[GOOD]);
            network.dns.set("basiq.test", &[GOOD]);
            let scene = Relaying::start("basiq.test", Vec::new()).await;
            let basiq = scene.sandbox.router();
            let old = serve(&mut network.tasks, GOOD, BASIQ_PORT, basiq.clone()).await;
            let new = serve(&mut network.tasks, OTHER, BASIQ_PORT, basiq).await;
            receiver(&mut network.tasks, GOOD).await;
            let look = async |id: &str| {
                let watch = scene.watch(id, "app.test").await;
                scene.first_attempt(&watch).await;
            };
            look("j-0").await;
            network.dns.set("basiq.test", &[OTHER]);
            let number = AtomicUsize::new(1);
            until(async || {
                look(&format!("j-{}", number.fetch_add(1, Ordering::SeqCst))).await;
                new.requests() > 0
            })
            .await;
            let before = old.requests();
            look("j-last").await;
            assert!(new.requests() > 1);
            assert_eq!(old.requests(), before);
        },
    );
}
