//! Finds the locales for a language tag by the lookup of BCP 47 (RFC 4647, section 3.4).

use crate::normalise::catalogue::ENGLISH;

const CHINESE: &str = "zh";
/// The subtags of the two Chinese scripts, in lower case.
const SIMPLIFIED: &str = "hans";
const TRADITIONAL: &str = "hant";
/// The regions in which Chinese is written in traditional characters unless a tag names another script.
const TRADITIONAL_REGIONS: [&str; 3] = ["hk", "mo", "tw"];

/// Returns the locales to try for a tag, in lower case and best first. These are the tag, the tag with fewer
/// and fewer subtags, and English.
///
/// Chinese is written in two scripts, and few tags name the script. Without a script in the tag, the region
/// decides, and `zh` alone means simplified. No person sees text in the other script.
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

/// Returns the tag, and the tag with fewer and fewer subtags. A subtag of a single letter is removed together
/// with the subtag after it, because it only introduces that one.
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

/// Returns the script that a Chinese tag asks for, or `None` for another language.
fn chinese_script(tag: &str) -> Option<&str> {
    let mut subtags = tag.split('-');
    if subtags.next() != Some(CHINESE) {
        return None;
    }
    // A subtag of a single letter begins an extension or a private part.
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
