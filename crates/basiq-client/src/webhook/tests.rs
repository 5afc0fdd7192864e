//! Tests of the reading of webhooks.

use proptest::prelude::*;
use relay_domain::Action;
use serde_json::json;

use super::*;

fn body(event_type: &str, entity: &str) -> String {
    let links = json!({"event": "https://b.example/events/e-7", "eventEntity": entity});
    json!({"eventTypeId": event_type, "eventId": "e-1", "links": links}).to_string()
}

fn contents(body: impl AsRef<[u8]>) -> WebhookContents {
    match read_webhook(body.as_ref()) {
        WebhookReading::Says(contents) => contents,
        WebhookReading::SaysNothing(reason) => {
            let shown = String::from_utf8_lossy(body.as_ref());
            panic!("{reason:?}: {shown}")
        }
    }
}

/// Returns the user, the connection and the consent as one line.
fn ids(contents: &WebhookContents) -> String {
    let ids = [
        &contents.user_id,
        &contents.connection_id,
        &contents.consent_id,
    ];
    let shown = ids.map(|id| id.as_ref().map_or("-", BasiqId::as_str));
    shown.join(" ")
}

const USER: &str = "https://b.example/users/u-1";
const CONNECTION: &str = "https://b.example/users/u-1/connections/c-1";
const CONSENT: &str = "https://b.example/users/u-1/consents/k-1";
const ACCOUNT: &str = "https://b.example/users/u-1/accounts/a-1";
const TRANSACTIONS: &str =
    "https://b.example/users/u-1/transactions?filter=connection.id.eq('c-1')";

/// Each documented type, what its webhook links to, the ids of user, connection and consent in it, and its notice.
const EACH_TYPE: [(&str, &str, &str, Option<&str>); 15] = [
    ("account.updated", ACCOUNT, "u-1 - -", None),
    ("connection.activated", CONNECTION, "u-1 c-1 -", None),
    ("connection.created", CONNECTION, "u-1 c-1 -", None),
    (
        "connection.deleted",
        CONNECTION,
        "u-1 c-1 -",
        Some("connection-removed"),
    ),
    (
        "connection.invalidated",
        CONNECTION,
        "u-1 c-1 -",
        Some("connection-invalid"),
    ),
    ("consent.created", CONSENT, "u-1 - k-1", None),
    (
        "consent.expired",
        CONSENT,
        "u-1 - k-1",
        Some("consent-expired"),
    ),
    (
        "consent.reminder",
        CONSENT,
        "u-1 - k-1",
        Some("consent-expiring"),
    ),
    (
        "consent.revoked",
        CONSENT,
        "u-1 - k-1",
        Some("consent-revoked"),
    ),
    ("consent.updated", CONSENT, "u-1 - k-1", None),
    (
        "consent.warning",
        CONSENT,
        "u-1 - k-1",
        Some("consent-expiring"),
    ),
    ("transactions.updated", TRANSACTIONS, "u-1 c-1 -", None),
    ("user.created", USER, "u-1 - -", None),
    ("user.deleted", USER, "u-1 - -", Some("user-removed")),
    ("user.updated", USER, "u-1 - -", None),
];

#[test]
fn each_type_that_basiq_documents_is_read() {
    let documented = BasiqEventType::DOCUMENTED
        .iter()
        .map(BasiqEventType::as_str);
    assert!(documented.eq(EACH_TYPE.iter().map(|row| row.0)));
    for (event_type, entity, expected, kind) in EACH_TYPE {
        let contents = contents(body(event_type, entity));
        assert_eq!(contents.event_type.as_str(), event_type);
        assert!(
            !matches!(contents.event_type, BasiqEventType::Other(_)),
            "{event_type}"
        );
        assert_eq!(ids(&contents), expected, "{event_type}");
        assert_eq!(contents.event_id, "e-1".parse().ok(), "{event_type}");
        let notice = contents.notice();
        let told = notice.as_ref().map(|notice| notice.kind.as_str());
        assert_eq!(told, kind, "{event_type}");
        if let Some(notice) = notice {
            let connection = notice.connection_id.as_ref().map(BasiqId::as_str);
            assert_eq!(notice.user_id.as_str(), "u-1", "{event_type}");
            assert_eq!(connection.is_some(), event_type.starts_with("connection."));
        }
    }
}

#[test]
fn a_notice_has_the_usual_action_of_its_kind() {
    for (event_type, entity, action) in [
        ("consent.warning", CONSENT, Action::Reauthorise),
        (
            "connection.invalidated",
            CONNECTION,
            Action::ResubmitCredentials,
        ),
        ("user.deleted", USER, Action::None),
    ] {
        let notice = contents(body(event_type, entity)).notice().unwrap();
        assert_eq!(notice.action, action, "{event_type}");
    }
}

#[test]
fn a_webhook_that_does_not_say_whom_it_is_about_is_a_hint_and_no_notice() {
    for (event_type, entity) in [
        ("connection.deleted", USER),
        ("connection.invalidated", USER),
        ("connection.deleted", "/connections/c-1"),
        ("consent.expired", "/connections/c-1"),
        ("user.deleted", "/connections/c-1"),
        ("connection.updated", CONNECTION),
        ("job.failed", CONNECTION),
        ("", CONNECTION),
    ] {
        let contents = contents(body(event_type, entity));
        assert_eq!(contents.notice(), None, "{event_type} {entity}");
    }
}

#[test]
fn a_type_is_known_in_any_case_and_an_unknown_one_is_cleaned_and_cut() {
    let of_type = |event_type: &str| contents(body(event_type, USER)).event_type;
    assert_eq!(of_type(" User.Deleted\n"), BasiqEventType::UserDeleted);
    let odd = of_type(&format!("x.\u{202e}y\u{0}{}", "z".repeat(500)));
    assert_eq!(odd.as_str().len(), 128);
    assert!(odd.as_str().starts_with("x.yzz"), "{odd:?}");
}

#[test]
fn the_id_of_the_event_is_read_or_taken_from_the_link() {
    let links = json!({"event": "/events/e-7", "eventEntity": USER});
    let long = "x".repeat(129);
    for (event_id, expected) in [
        (json!("e-1"), Some("e-1")),
        (json!(" e-1 "), Some("e-1")),
        (json!(61723), Some("61723")),
        (json!(null), Some("e-7")),
        (json!(["e-1"]), Some("e-7")),
        (json!("a/b"), Some("e-7")),
        (json!(""), Some("e-7")),
        (json!(long), Some("e-7")),
    ] {
        let body = json!({"eventId": event_id, "links": links}).to_string();
        let id = contents(&body).event_id;
        assert_eq!(id.as_ref().map(BasiqId::as_str), expected, "{body}");
    }
    let without = json!({"links": {"eventEntity": USER}}).to_string();
    assert_eq!(contents(without).event_id, None);
}

#[test]
fn what_basiq_leaves_out_or_writes_otherwise_hides_nothing_else() {
    let documents: [&[u8]; 7] = [
        br#"{"eventTypeId":null,"links":{"eventEntity":"/users/u-1"}}"#,
        br#"{"links":{"event":null,"more":[1],"eventEntity":"/users/u-1"}}"#,
        b"\xef\xbb\xbf{\"links\":{\"eventEntity\":\"/users/u-1\"}}",
        b"{\"note\":\"caf\xe9\",\"links\":{\"eventEntity\":\"/users/u-1\"}}",
        br#"{"eventTypeId":"\ud83d","links":{"eventEntity":"/users/u-1"}}"#,
        br#"{"links":{},"links":{"eventEntity":"/users/u-1"}}"#,
        br#"{"links":{"eventEntity":"%2Fusers%2Fu-1"}}"#,
    ];
    for document in documents {
        let shown = String::from_utf8_lossy(document);
        assert_eq!(ids(&contents(document)), "u-1 - -", "{shown}");
    }
}

#[test]
fn what_is_no_webhook_says_nothing_and_why() {
    let padded = |size: usize| {
        let webhook = body("user.deleted", USER);
        format!("{webhook}{}", " ".repeat(size - webhook.len()))
    };
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (body, expected) in [
        (padded(MAX_WEBHOOK + 1), "too-large"),
        (String::new(), "unreadable"),
        ("no json".to_owned(), "unreadable"),
        ("[]".to_owned(), "unreadable"),
        ("null".to_owned(), "unreadable"),
        (deep, "unreadable"),
        ("{}".to_owned(), "names-nobody"),
        (r#"{"links":null}"#.to_owned(), "names-nobody"),
        (r#"{"links":"/users/u-1"}"#.to_owned(), "names-nobody"),
        (body("user.deleted", ""), "names-nobody"),
        (body("user.deleted", "/users/.."), "names-nobody"),
        (
            body("user.deleted", "/institutions/AU00000"),
            "names-nobody",
        ),
        (body("consent.expired", "/consents/k-1"), "names-nobody"),
    ] {
        match read_webhook(body.as_bytes()) {
            WebhookReading::SaysNothing(reason) => assert_eq!(reason.as_str(), expected),
            WebhookReading::Says(contents) => panic!("{contents:?}"),
        }
    }
    let largest = contents(padded(MAX_WEBHOOK));
    assert_eq!(largest.event_type, BasiqEventType::UserDeleted);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(read_webhook(&bytes));
    }

    #[test]
    fn whatever_the_fields_hold_little_is_kept(
        event_type in "(?s).{0,400}", entity in "(?s)(/users/|/connections/|/consents/|.){0,40}"
    ) {
        if let WebhookReading::Says(contents) = read_webhook(body(&event_type, &entity).as_bytes()) {
            prop_assert!(contents.event_type.as_str().chars().count() <= MAX_TYPE);
            prop_assert!(contents.user_id.is_some() || contents.connection_id.is_some());
        }
    }
}
