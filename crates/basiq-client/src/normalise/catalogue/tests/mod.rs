//! Tests of the catalogue: the choice of a locale, and the rules for overrides.

mod words;

use relay_domain::{NoticeKind, UserNotice};

use super::*;

fn locale(tag: &str) -> Locale {
    Locale::parse(tag).unwrap()
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
        ("zh-Hant", "success", in_english("success")),
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
fn a_tag_falls_back_to_the_nearest_locale_and_never_to_another_script() {
    let catalogue = Catalogue::builtin();
    for (asked, expected) in [
        ("en", "en"),
        ("EN-au", "en"),
        ("en-GB-oxendict", "en"),
        ("zh-Hans", "zh-Hans"),
        ("ZH-HANS", "zh-Hans"),
        ("zh", "zh-Hans"),
        ("zh-CN", "zh-Hans"),
        ("zh-SG", "zh-Hans"),
        ("zh-AU", "zh-Hans"),
        ("zh-Hans-AU", "zh-Hans"),
        ("zh-Hans-TW", "zh-Hans"),
        ("zh-CN-x-bank", "zh-Hans"),
        ("zh-Hant", "en"),
        ("zh-TW", "en"),
        ("zh-tw", "en"),
        ("zh-HK", "en"),
        ("zh-MO", "en"),
        ("zh-Hant-CN", "en"),
        ("zh-Latn", "en"),
        ("yue", "en"),
        ("vi", "vi"),
        ("vi-VN", "vi"),
        ("VI-au", "vi"),
        ("ar", "ar"),
        ("ar-EG", "ar"),
        ("ar-Arab-LB", "ar"),
        ("ar-u-nu-latn", "ar"),
        ("arz", "en"),
        ("fr", "en"),
        ("xx-YY", "en"),
    ] {
        let (told, entries) = catalogue.entries(Some(asked));
        assert_eq!(told, expected, "{asked}");
        let (_, same) = catalogue.entries(Some(expected));
        assert_eq!(entries, same, "{asked}");
        assert_eq!(
            catalogue.user_message("success", &locale(asked)),
            catalogue.user_message("success", &locale(expected)),
            "{asked}"
        );
    }
}

#[test]
fn texts_can_be_replaced_one_by_one_and_locales_added() {
    let catalogue = Catalogue::builtin()
        .with_overrides(
            "[vi]\nsuccess = 'Xong.'\n[ZH-hans]\nsuccess = '好。'\n[zh-Hant]\nsuccess = '一切順利。'",
        )
        .unwrap();
    let builtin = Catalogue::builtin();
    for (tag, key, expected) in [
        ("vi-VN", "success", "Xong."),
        ("zh-CN", "success", "好。"),
        ("zh-TW", "success", "一切順利。"),
        (
            "vi",
            "bank-slow",
            builtin.user_message("bank-slow", &locale("vi")),
        ),
        (
            "zh-SG",
            "bank-slow",
            builtin.user_message("bank-slow", &locale("zh-Hans")),
        ),
        (
            "zh-HK",
            "bank-slow",
            builtin.user_message("bank-slow", &locale("en")),
        ),
        (
            "ar",
            "success",
            builtin.user_message("success", &locale("ar")),
        ),
    ] {
        assert_eq!(catalogue.user_message(key, &locale(tag)), expected, "{tag}");
    }
    for (tag, told) in [("zh-TW", "zh-Hant"), ("zh-CN", "zh-Hans"), ("vi", "vi")] {
        assert_eq!(catalogue.entries(Some(tag)).0, told);
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
    let (_, mut entries) = catalogue.entries(None);
    assert!(entries.is_sorted_by(|one, next| one.error_code < next.error_code));
    let entry = entries.remove(0);
    let json = serde_json::to_value(entry).unwrap();
    assert_eq!(json["errorCode"], "access-denied");
    assert_eq!(json["status"], "failed");
    assert_eq!(json["action"], "fix-request");
    assert!(json["userMessage"].is_string());
}

#[test]
fn notices_are_listed_with_the_codes_of_jobs_and_their_texts_can_be_replaced() {
    let catalogue = Catalogue::builtin()
        .with_overrides("[vi]\nconsent-expired = 'Xong.'")
        .unwrap();
    let (_, entries) = catalogue.entries(Some("vi-VN"));
    for kind in NoticeKind::ALL {
        let mut listed = entries
            .iter()
            .filter(|entry| entry.error_code == kind.as_str());
        let entry = listed.next().unwrap();
        assert_eq!(
            (entry.status, entry.action),
            (kind.status(), kind.default_action())
        );
        assert_eq!(listed.next(), None, "{kind}");
        let notice = UserNotice::new(*kind, "u-1".parse().unwrap(), None);
        assert_eq!(
            catalogue.notice_message(&notice, &locale("vi")),
            entry.user_message
        );
        let is_replaced = *kind == NoticeKind::ConsentExpired;
        assert_eq!(entry.user_message == "Xong.", is_replaced, "{kind}");
        assert!(!is_known_code(kind.as_str()), "no job fails with {kind}");
    }
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
        (
            "[ar]\nsuccess = \"\\u202Eتم.\"",
            "`ar.success` must be a text",
        ),
        (long.as_str(), "`en.success` must be a text"),
    ] {
        let told = Catalogue::builtin()
            .with_overrides(toml)
            .unwrap_err()
            .to_string();
        assert!(told.contains(expected), "{toml}: {told}");
    }
}
