//! What a client's callbacks get beside the signature: kept by parts, read with each claimed delivery.

use relay_domain::{
    CallbackAuth, CallbackAuthPart, ClientCertificate, ClientName, SecretHeaders, Status,
};
use relay_store::{AfterAttempt, CallbackAuthChange, PartChange};

use crate::{
    store::{
        contract::subscriptions::{new_subscription, subscribe},
        support::{Fixture, at},
    },
    support::actor,
};

fn first() -> ClientName {
    "first".parse().unwrap()
}

fn certificate(key: &[u8]) -> PartChange<ClientCertificate> {
    let chain = vec![b"own \0".to_vec(), b"above".to_vec()];
    PartChange::Replace(ClientCertificate::new(chain, key.to_vec(), at(900)))
}

fn headers(text: &str) -> PartChange<SecretHeaders> {
    PartChange::Replace(SecretHeaders::parse(text).unwrap())
}

async fn change(
    fixture: &Fixture,
    certificate: PartChange<ClientCertificate>,
    headers: PartChange<SecretHeaders>,
) -> bool {
    let change = CallbackAuthChange {
        certificate,
        headers,
    };
    let (store, name) = (&fixture.store, first());
    let changed = store.change_callback_auth(&name, &change, actor(), at(1));
    changed.await.unwrap()
}

/// Returns the key and the headers as texts.
fn words(auth: &CallbackAuth) -> (Option<String>, String) {
    let key = auth.certificate.as_ref().map(|certificate| {
        assert_eq!(certificate.chain(), [b"own \0".to_vec(), b"above".to_vec()]);
        assert_eq!(certificate.expires_at(), at(900));
        String::from_utf8(certificate.expose_key().to_vec()).unwrap()
    });
    let headers = auth.headers.expose_to_store().into_iter();
    let lines = headers.map(|(name, value)| format!("{name}: {value}\n"));
    (key, lines.collect())
}

async fn stored(fixture: &Fixture) -> (Option<String>, String) {
    let client = fixture.store.list_clients().await.unwrap().remove(0);
    let found = fixture.store.find_client_by_key(&client.key_hash).await;
    if let Some(found) = found.unwrap() {
        assert_eq!(words(&found.callback_auth), words(&client.callback_auth));
    }
    words(&client.callback_auth)
}

#[tokio::test]
async fn each_part_is_replaced_and_removed_alone() {
    let fixture = Fixture::new().await;
    let none = (None, String::new());
    let key = |text: &str| Some(text.to_owned());
    assert_eq!(stored(&fixture).await, none);
    assert!(change(&fixture, certificate(b"one"), PartChange::Keep).await);
    assert_eq!(stored(&fixture).await, (key("one"), String::new()));
    assert!(change(&fixture, PartChange::Keep, headers("X-A: 1\nX-B: 2")).await);
    let both = "x-a: 1\nx-b: 2\n".to_owned();
    assert_eq!(stored(&fixture).await, (key("one"), both.clone()));
    assert!(change(&fixture, certificate(b"two"), headers("X-C: 3")).await);
    assert_eq!(stored(&fixture).await, (key("two"), "x-c: 3\n".to_owned()));
    assert!(change(&fixture, PartChange::Remove, PartChange::Keep).await);
    assert_eq!(stored(&fixture).await, (None, "x-c: 3\n".to_owned()));
    assert!(change(&fixture, certificate(b"one"), PartChange::Remove).await);
    assert_eq!(stored(&fixture).await, (key("one"), String::new()));
    let sealed = fixture.store.reseal_secrets(actor(), at(2)).await;
    assert_eq!(sealed.unwrap(), 1);
    assert_eq!(stored(&fixture).await, (key("one"), String::new()));
    assert!(change(&fixture, PartChange::Remove, PartChange::Remove).await);
    assert_eq!(stored(&fixture).await, none);
}

#[tokio::test]
async fn a_revoked_client_loses_it_and_nobody_gets_it() {
    let fixture = Fixture::new().await;
    assert!(change(&fixture, certificate(b"one"), headers("X-A: 1")).await);
    let revoked = fixture.store.revoke_client(&first(), actor(), at(2)).await;
    assert_eq!(revoked.unwrap(), Some(0));
    assert_eq!(stored(&fixture).await, (None, String::new()));
    assert!(!change(&fixture, certificate(b"one"), headers("X-A: 1")).await);
    assert_eq!(stored(&fixture).await, (None, String::new()));
    let nobody = "nobody".parse().unwrap();
    let changed = fixture
        .store
        .change_callback_auth(&nobody, &CallbackAuthChange::clear(), actor(), at(3))
        .await;
    assert!(!changed.unwrap());
}

#[tokio::test]
async fn each_claim_reads_it_anew() {
    let fixture = Fixture::new().await;
    assert!(change(&fixture, certificate(b"one"), headers("X-A: 1")).await);
    fixture.watch("j1", at(1)).await;
    subscribe(&fixture, new_subscription(&fixture, "u-1", at(1))).await;
    fixture.tell(Status::Success, at(2)).await;
    let due = fixture.claim_delivery(at(3)).await;
    let expected = (Some("one".to_owned()), "x-a: 1\n".to_owned());
    assert_eq!(words(&due.auth), expected);
    assert!(change(&fixture, certificate(b"two"), PartChange::Remove).await);
    fixture
        .attempted(&due, AfterAttempt::RetryAt(at(4)), at(4))
        .await;
    let due = fixture.claim_delivery(at(5)).await;
    assert_eq!(words(&due.auth), (Some("two".to_owned()), String::new()));
}

#[tokio::test]
async fn a_part_that_cannot_be_read_stops_neither_the_key_nor_the_other_part() {
    let fixture = Fixture::new().await;
    assert!(change(&fixture, certificate(b"one"), headers("X-A: 1")).await);
    fixture.watch("j1", at(1)).await;
    fixture.tell(Status::Success, at(2)).await;
    let key = {
        let clients = fixture.store.list_clients().await.unwrap();
        clients[0].key_hash
    };
    let (one, line) = (Some("one".to_owned()), "x-a: 1\n".to_owned());
    for (part, column, left) in [
        (
            CallbackAuthPart::Certificate,
            "callback_certificate",
            (None, line.clone()),
        ),
        (
            CallbackAuthPart::Headers,
            "callback_headers",
            (one.clone(), String::new()),
        ),
    ] {
        for stored in ["sealed1:AAAA", "{"] {
            let damage = format!("UPDATE clients SET {column} = '{stored}'");
            fixture.home.execute(&damage).await;
            let found = fixture.store.find_client_by_key(&key).await.unwrap();
            let auth = found.unwrap().callback_auth;
            assert_eq!(
                (&auth.unreadable, words(&auth)),
                (&vec![part], left.clone())
            );
            let due = fixture.claim_delivery(at(3)).await;
            assert_eq!(
                (&due.auth.unreadable, words(&due.auth)),
                (&vec![part], left.clone())
            );
            fixture
                .attempted(&due, AfterAttempt::RetryAt(at(3)), at(3))
                .await;
            // it could only be encrypted again after it was read, so it stays as it is
            let resealed = fixture.store.reseal_secrets(actor(), at(3)).await;
            let error = resealed.unwrap_err().to_string();
            assert!(error.contains(column) && error.contains("first"), "{error}");
        }
        assert!(change(&fixture, certificate(b"one"), headers("X-A: 1")).await);
        let due = fixture.claim_delivery(at(3)).await;
        assert_eq!(due.auth.unreadable, []);
        assert_eq!(words(&due.auth), (one.clone(), line.clone()));
        fixture
            .attempted(&due, AfterAttempt::RetryAt(at(3)), at(3))
            .await;
    }
}
