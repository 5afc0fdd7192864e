//! Clients: add, rotate, revoke.

use relay_domain::{ApiKey, ClientName, SigningSecret, WatchState};

use crate::store::support::{Fixture, at};
use crate::support::actor;

fn name(text: &str) -> ClientName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_client_is_found_by_its_key_until_that_is_rotated() {
    let fixture = Fixture::new().await;
    let (old, new) = (ApiKey::generate(), ApiKey::generate());
    let secret = SigningSecret::generate();
    let store = &fixture.store;
    let id = store
        .add_client(&name("bank-app"), &old.hash(), &secret, actor(), at(0))
        .await
        .unwrap();
    let found = store.find_client_by_key(&old.hash()).await.unwrap();
    assert_eq!(found.as_ref().map(|client| client.id), id);
    assert_eq!(found.unwrap().signing_secret.expose(), secret.expose());
    assert!(
        store
            .rotate_key(&name("bank-app"), &new.hash(), actor(), at(1))
            .await
            .unwrap()
    );
    assert!(
        store
            .find_client_by_key(&old.hash())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .find_client_by_key(&new.hash())
            .await
            .unwrap()
            .is_some()
    );
}

async fn add_first(fixture: &Fixture) -> bool {
    let (key, secret) = (ApiKey::generate().hash(), SigningSecret::generate());
    let added = fixture
        .store
        .add_client(&name("first"), &key, &secret, actor(), at(1))
        .await;
    added.unwrap().is_some()
}

#[tokio::test]
async fn a_name_is_taken_once_even_by_a_revoked_client() {
    let fixture = Fixture::new().await;
    assert!(!add_first(&fixture).await);
    let revoked = fixture
        .store
        .revoke_client(&name("first"), actor(), at(2))
        .await;
    assert_eq!(revoked.unwrap(), Some(0));
    assert!(!add_first(&fixture).await);
    assert_eq!(fixture.store.list_clients().await.unwrap().len(), 1);
}

#[tokio::test]
async fn both_secrets_are_known_after_a_rotation() {
    let fixture = Fixture::new().await;
    let before = fixture.store.list_clients().await.unwrap().remove(0);
    let secret = SigningSecret::generate();
    let rotated = fixture
        .store
        .rotate_secret(&name("first"), &secret, at(60), actor(), at(0))
        .await;
    assert!(rotated.unwrap());
    let after = fixture.store.list_clients().await.unwrap().remove(0);
    assert_eq!(after.signing_secret.expose(), secret.expose());
    let (previous, until) = after.previous_secret.unwrap();
    assert_eq!(previous.expose(), before.signing_secret.expose());
    assert_eq!(until, at(60));
}

#[tokio::test]
async fn a_rotation_ends_early_when_it_is_asked_to() {
    let fixture = Fixture::new().await;
    let first = name("first");
    let retire = |now| fixture.store.retire_previous_secret(&first, actor(), now);
    assert_eq!(retire(at(1)).await.unwrap(), Some(false));
    let secret = SigningSecret::generate();
    let rotate = async || {
        let rotated = fixture
            .store
            .rotate_secret(&first, &secret, at(60), actor(), at(0))
            .await;
        assert!(rotated.unwrap());
    };
    rotate().await;
    assert_eq!(retire(at(2)).await.unwrap(), Some(true));
    let client = fixture.store.list_clients().await.unwrap().remove(0);
    assert!(client.previous_secret.is_none());
    assert_eq!(client.signing_secret.expose(), secret.expose());
    rotate().await;
    assert_eq!(retire(at(61)).await.unwrap(), Some(false));
    let nobody = name("nobody");
    let unknown = fixture
        .store
        .retire_previous_secret(&nobody, actor(), at(2))
        .await;
    assert_eq!(unknown.unwrap(), None);
    fixture
        .store
        .revoke_client(&first, actor(), at(70))
        .await
        .unwrap();
    assert_eq!(retire(at(71)).await.unwrap(), None);
}

#[tokio::test]
async fn a_revoked_client_loses_its_open_watches_and_its_key() {
    let fixture = Fixture::new().await;
    let watch = fixture.watch("j1", at(0)).await;
    fixture.watch("j2", at(0)).await;
    let first = name("first");
    for expected in [Some(2), None] {
        let revoked = fixture.store.revoke_client(&first, actor(), at(5)).await;
        assert_eq!(revoked.unwrap(), expected);
    }
    let story = fixture.story(watch).await;
    assert_eq!(story.watch.state, WatchState::Cancelled);
    assert!(fixture.claim(at(6)).await.is_empty());
    let secret = SigningSecret::generate();
    let rotated = fixture
        .store
        .rotate_secret(&name("first"), &secret, at(60), actor(), at(0))
        .await;
    assert!(!rotated.unwrap());
}
