//! Tests of the catalogue: its rules for words, and its locales.

use super::*;

fn locale(tag: &str) -> Locale {
    Locale::parse(tag).unwrap()
}

#[test]
fn every_message_is_plain_and_short() {
    let messages: BTreeMap<String, String> = toml::from_str(MESSAGES_EN).unwrap();
    for (key, text) in &messages {
        let sentences = text.matches(['.', '!', '?']).count();
        assert!((1..=2).contains(&sentences), "{key}: {text}");
        assert!(text.ends_with('.') && is_showable(text), "{key}: {text}");
        let lower = text.to_lowercase();
        for (code, _) in codes::codes().filter(|(code, _)| code.contains('-')) {
            assert!(!lower.contains(code), "{key} has the code {code}");
        }
        for word in lower.split(|c: char| !c.is_alphanumeric()) {
            let banned = [
                "basiq",
                "mfa",
                "api",
                "http",
                "oauth",
                "job",
                "relay",
                "webhook",
                "error",
                "code",
                "null",
                "token",
                "connector",
                "refresh",
            ];
            assert!(!banned.contains(&word), "{key}: {text}");
        }
        assert!(!text.contains('_') && !text.contains('`'), "{key}: {text}");
    }
}

/// Messages that no code names: what the rules say themselves.
const BY_RULE: [&str; 11] = [
    "success",
    "answer-mfa",
    "bank-delayed",
    "bank-outage",
    "bank-is-back",
    "bank-unavailable-support",
    "update-given-up",
    "outage-outlived",
    "login-not-confirmed",
    "account-locked",
    "mfa-unsupported",
];

#[test]
fn every_message_that_is_asked_for_is_there_and_no_other() {
    let messages: BTreeMap<String, String> = toml::from_str(MESSAGES_EN).unwrap();
    let mut asked: Vec<&str> = codes::codes()
        .map(|(_, code)| code.message.as_str())
        .collect();
    asked.extend(BY_RULE);
    asked.sort_unstable();
    asked.dedup();
    let there: Vec<&str> = messages.keys().map(String::as_str).collect();
    assert_eq!(there, asked);
}

#[test]
fn a_text_is_taken_from_the_nearest_locale() {
    let catalogue = Catalogue::builtin()
        .with_overrides("[de]\nsuccess = 'Alles gut.'\n[de-CH]\nbank-slow = 'Zu langsam.'")
        .unwrap();
    let english = Catalogue::builtin();
    let in_english = |key| english.user_message(key, &Locale::default());
    for (tag, key, expected) in [
        ("de", "success", "Alles gut."),
        ("DE-ch", "success", "Alles gut."),
        ("de-CH-1996", "bank-slow", "Zu langsam."),
        ("de", "bank-slow", in_english("bank-slow")),
        ("en-AU", "success", in_english("success")),
        ("fr", "success", in_english("success")),
        ("fr", "no-such-message", in_english("unknown-error")),
    ] {
        assert_eq!(
            catalogue.user_message(key, &locale(tag)),
            expected,
            "{tag} {key}"
        );
    }
}

#[test]
fn entries_have_every_code_and_say_their_locale() {
    let catalogue = Catalogue::builtin()
        .with_overrides("[en-AU]\ninvalid-credentials = 'No good, mate.'")
        .unwrap();
    for (asked, resolved) in [
        (None, "en"),
        (Some("en-au"), "en-AU"),
        (Some("en-AU-x-bush"), "en-AU"),
        (Some("en-GB"), "en"),
        (Some("fr"), "en"),
        (Some("no tag"), "en"),
    ] {
        let (locale, entries) = catalogue.entries(asked);
        assert_eq!(locale, resolved, "{asked:?}");
        for own in [
            "mfa-failed",
            "job-not-found",
            "job-not-accessible",
            "watch-expired",
        ] {
            assert!(entries.iter().any(|entry| entry.error_code == own), "{own}");
        }
        let refused = entries
            .iter()
            .find(|entry| entry.error_code == "invalid-credentials")
            .unwrap();
        assert_eq!(refused.action, Action::ResubmitCredentials);
        assert_eq!(
            refused.user_message == "No good, mate.",
            resolved == "en-AU"
        );
    }
    let entry = catalogue.entries(None).1.remove(0);
    let json = serde_json::to_value(entry).unwrap();
    assert_eq!(json["errorCode"], "access-denied");
    assert_eq!(json["status"], "failed");
    assert_eq!(json["action"], "fix-request");
    assert!(json["userMessage"].is_string());
}

#[test]
fn overrides_that_cannot_be_used_are_refused_by_name() {
    let long = format!("[en]\nsuccess = '{}'", "x".repeat(501));
    for (toml, expected) in [
        ("[en", "are not TOML"),
        (
            "success = 'Done.'",
            "`success` must be a table named by a language tag",
        ),
        ("[en_AU]\nsuccess = 'Done.'", "`en_AU` must be a table"),
        (
            "[en]\nsucces = 'Done.'",
            "`en.succes` is no message; the messages are: account-locked, ",
        ),
        (
            "[en]\nsuccess = 7",
            "`en.success` must be a text of 1 to 500 characters",
        ),
        ("[en]\nsuccess = ' '", "`en.success` must be a text"),
        (long.as_str(), "`en.success` must be a text"),
    ] {
        let told = Catalogue::builtin()
            .with_overrides(toml)
            .unwrap_err()
            .to_string();
        assert!(told.contains(expected), "{toml}: {told}");
    }
}
