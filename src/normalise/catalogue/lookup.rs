//! Which locales have words for a language tag: the lookup of BCP 47 (RFC 4647, section 3.4).

use crate::normalise::catalogue::ENGLISH;

const CHINESE: &str = "zh";
/// Subtags of Chinese in its two scripts, as its tags have them in lower case.
const SIMPLIFIED: &str = "hans";
const TRADITIONAL: &str = "hant";
/// Where Chinese is written in traditional characters unless a tag says otherwise.
const TRADITIONAL_REGIONS: [&str; 3] = ["hk", "mo", "tw"];

/// The locales to look in for a tag, in lower case and best first: the tag with ever fewer subtags,
/// then English.
///
/// Chinese is written in two scripts, and a tag seldom names its script: where it does not, its
/// region tells it, and `zh` alone is simplified. Nobody is shown the other script.
pub(super) fn ranges(tag: &str) -> Vec<String> {
    let tag = tag.to_ascii_lowercase();
    let mut ranges = truncations(&tag);
    if let Some(script) = chinese_script(&tag) {
        if script != SIMPLIFIED {
            ranges.retain(|range| range != CHINESE);
        }
        let in_script = format!("{CHINESE}-{script}");
        if !ranges.contains(&in_script) {
            ranges.push(in_script);
        }
    }
    ranges.push(ENGLISH.to_owned());
    ranges
}

/// The tag with ever fewer subtags; one of a single letter only introduces those after it, and goes
/// with them.
fn truncations(tag: &str) -> Vec<String> {
    let shorter = tag
        .rmatch_indices('-')
        .filter_map(|(end, _)| tag.get(..end))
        .filter(|range| range.rsplit('-').next().is_some_and(|last| last.len() > 1));
    std::iter::once(tag)
        .chain(shorter)
        .map(ToOwned::to_owned)
        .collect()
}

/// The script that a tag of Chinese asks for; nothing for another language.
fn chinese_script(tag: &str) -> Option<&str> {
    let mut subtags = tag.split('-');
    if subtags.next() != Some(CHINESE) {
        return None;
    }
    // what follows a single letter is an extension, or private
    let subtags: Vec<&str> = subtags.take_while(|subtag| subtag.len() > 1).collect();
    let is_script =
        |subtag: &str| subtag.len() == 4 && subtag.bytes().all(|byte| byte.is_ascii_alphabetic());
    let named = subtags.iter().find(|subtag| is_script(subtag)).copied();
    let is_traditional = || {
        subtags
            .iter()
            .any(|subtag| TRADITIONAL_REGIONS.contains(subtag))
    };
    Some(named.unwrap_or_else(|| {
        if is_traditional() {
            TRADITIONAL
        } else {
            SIMPLIFIED
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_looked_up_with_ever_fewer_subtags_and_english_is_last() {
        for (tag, expected) in [
            ("en", "en en"),
            ("de-CH-1996", "de-ch-1996 de-ch de en"),
            ("AR-eg", "ar-eg ar en"),
            ("de-x-Bern-3000", "de-x-bern-3000 de-x-bern de en"),
            (
                "de-CH-u-co-phonebk",
                "de-ch-u-co-phonebk de-ch-u-co de-ch de en",
            ),
            ("zh", "zh zh-hans en"),
            ("zh-CN", "zh-cn zh zh-hans en"),
            ("zh-Hans-HK", "zh-hans-hk zh-hans zh en"),
            ("zh-TW", "zh-tw zh-hant en"),
            ("zh-Hant-CN", "zh-hant-cn zh-hant en"),
            ("zh-Latn-pinyin", "zh-latn-pinyin zh-latn en"),
            ("zh-x-hant", "zh-x-hant zh zh-hans en"),
        ] {
            assert_eq!(ranges(tag).join(" "), expected, "{tag}");
        }
    }
}
