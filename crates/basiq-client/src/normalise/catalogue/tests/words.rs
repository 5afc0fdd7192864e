//! Tests of the texts: each locale has every text, and the texts are plain, short and clean.

use relay_domain::{NoticeKind, UserNotice};

use super::super::*;

/// Messages that no code names, because the rules use them directly.
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

/// Returns the message of each notice, with both that an invalid connection has.
fn notice_messages() -> impl Iterator<Item = &'static str> {
    let usual = NoticeKind::ALL
        .iter()
        .map(|kind| notices::message(*kind, kind.default_action()));
    let by_open_banking = notices::message(NoticeKind::ConnectionInvalid, Action::Reauthorise);
    usual.chain([by_open_banking])
}

/// Returns every text with its locale and its key.
fn all_texts() -> impl Iterator<Item = (&'static str, String, String)> {
    BUILTIN.into_iter().flat_map(|(tag, file)| {
        let texts: BTreeMap<String, String> = toml::from_str(file).unwrap();
        texts.into_iter().map(move |(key, text)| (tag, key, text))
    })
}

#[test]
fn every_locale_has_every_message_that_is_asked_for_and_no_other() {
    let mut asked: Vec<&str> = codes::codes()
        .map(|(_, code)| code.message.as_str())
        .collect();
    asked.extend(BY_RULE);
    asked.extend(notice_messages());
    asked.sort_unstable();
    asked.dedup();
    for (tag, file) in BUILTIN {
        let messages: BTreeMap<String, String> = toml::from_str(file).unwrap();
        let there: Vec<&str> = messages.keys().map(String::as_str).collect();
        assert_eq!(there, asked, "{tag}");
    }
}

#[test]
fn every_code_has_words_of_its_own_in_every_locale() {
    let catalogue = Catalogue::builtin();
    let (_, english) = catalogue.entries(None);
    for (tag, _) in BUILTIN {
        let (told, entries) = catalogue.entries(Some(tag));
        assert_eq!(told, tag);
        let known = codes::codes().count() + NoticeKind::ALL.len();
        assert_eq!(entries.len(), known);
        for (entry, english) in entries.iter().zip(&english) {
            let code = &entry.error_code;
            assert_eq!(code, &english.error_code);
            assert!(!entry.user_message.is_empty(), "{tag} {code}");
            let is_english = entry.user_message == english.user_message;
            assert_eq!(is_english, tag == ENGLISH, "{tag} {code}");
        }
    }
}

#[test]
fn every_notice_has_words_of_its_own_in_every_locale() {
    let catalogue = Catalogue::builtin();
    for (tag, _) in BUILTIN {
        let locale = Locale::parse(tag).unwrap();
        let mut told: Vec<&str> = Vec::new();
        for kind in NoticeKind::ALL {
            let mut notice = UserNotice::new(*kind, "u-1".parse().unwrap(), None);
            told.push(catalogue.notice_message(&notice, &locale));
            if *kind == NoticeKind::ConnectionInvalid {
                notice.action = Action::Reauthorise;
                told.push(catalogue.notice_message(&notice, &locale));
            }
        }
        let unknown = catalogue.user_message(UNKNOWN_ERROR, &locale);
        assert!(
            !told.contains(&unknown) && !told.contains(&""),
            "{tag}: {told:?}"
        );
        let count = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!((told.len(), count), (7, 7), "{tag}: {told:?}");
    }
}

#[test]
fn every_text_is_one_or_two_sentences_without_numbers_codes_and_names_of_products() {
    for (tag, key, text) in all_texts() {
        let ends = ['.', '!', '?', '。', '！', '？', '؟', '…'];
        let sentences = text.matches(ends).count();
        assert!((1..=2).contains(&sentences), "{tag} {key}: {text}");
        let end = if tag == "zh-Hans" { '。' } else { '.' };
        assert!(text.ends_with(end), "{tag} {key}: {text}");
        // A text contains no number, so that no plural can be wrong, and no placeholder.
        let odd = |c: char| c.is_numeric() || "{}<>[]()（）【】%$_`*#/\\|\"".contains(c);
        assert!(!text.contains(odd), "{tag} {key}: {text}");
        let lower = text.to_lowercase();
        let of_jobs = codes::codes().map(|(code, _)| code);
        let of_notices = NoticeKind::ALL.iter().map(|kind| kind.as_str());
        let codes = of_jobs.chain(of_notices);
        for code in codes.filter(|code| code.contains('-')) {
            assert!(!lower.contains(code), "{tag} {key} has the code {code}");
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
            assert!(!banned.contains(&word), "{tag} {key}: {text}");
        }
    }
}

#[test]
fn every_text_can_be_shown_as_it_is() {
    for (tag, key, text) in all_texts() {
        assert!(is_showable(&text), "{tag} {key}: {text}");
        assert_eq!(text.trim(), text, "{tag} {key}");
        assert!(!text.contains("  "), "{tag} {key}: {text}");
        // The texts also have no joiners, marks, isolates or byte-order marks, because no text mixes
        // directions.
        let invisible = |c: char| {
            matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
                || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{a0}')
        };
        assert!(!text.contains(invisible), "{tag} {key}: {text:?}");
    }
}

/// Returns whether a letter, space or punctuation mark belongs in a text of this locale.
fn belongs(tag: &str, letter: char) -> bool {
    match tag {
        "en" => letter.is_ascii_alphabetic() || " .,".contains(letter),
        "zh-Hans" => ('\u{4e00}'..='\u{9fff}').contains(&letter) || "，。、".contains(letter),
        // The Vietnamese alphabet has no f, j, w and z. A letter with its tone is one character.
        "vi" => {
            (letter.is_ascii_alphabetic() && !"fjwz".contains(letter.to_ascii_lowercase()))
                || " .,".contains(letter)
                || "ăâđêôơưĂÂĐÊÔƠƯàảãáạèẻẽéẹìỉĩíịòỏõóọùủũúụỳỷỹýỵ".contains(letter)
                || ('\u{1ea0}'..='\u{1ef9}').contains(&letter)
        }
        // The Arabic letters from hamza to ya, and the only vowel sign in use, fathatan.
        "ar" => ('\u{621}'..='\u{64a}').contains(&letter) || " .،\u{64b}".contains(letter),
        other => panic!("which letters has {other}?"),
    }
}

#[test]
fn every_text_is_written_in_the_letters_of_its_language_only() {
    for (tag, key, text) in all_texts() {
        let strange: String = text
            .chars()
            .filter(|letter| !belongs(tag, *letter))
            .collect();
        assert!(strange.is_empty(), "{tag} {key} has {strange:?}: {text}");
    }
}

#[test]
fn no_simplified_text_has_traditional_characters() {
    // The traditional forms of characters that the texts use.
    let traditional =
        "銀請試帳單開戶資訊無這裡們會為時間聯繫團隊檔傳選擇對應確認讀錄碼驗證問題與處關範圍";
    for (tag, key, text) in all_texts().filter(|(tag, ..)| *tag == "zh-Hans") {
        let found = text.chars().find(|c| traditional.contains(*c));
        assert_eq!(found, None, "{tag} {key}: {text}");
    }
}
