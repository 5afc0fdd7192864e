//! Pages of lists: the number of entries, and opaque cursors for the next page.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::web::QueryParams;

/// The number of entries on a page by default.
const DEFAULT_LIMIT: usize = 50;
/// The maximum number of entries on a page.
const MAX_LIMIT: usize = 200;

/// Takes the parameter `limit`.
pub(super) fn take_limit(params: &mut QueryParams) -> usize {
    let read = |text: &str| {
        text.parse()
            .ok()
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
    };
    params
        .take("limit", "a number from 1 to 200", read)
        .unwrap_or(DEFAULT_LIMIT)
}

/// Takes the parameter `cursor`, which [`page`] created.
pub(super) fn take_cursor<T: FromStr>(params: &mut QueryParams) -> Option<T> {
    params.take("cursor", "a `nextCursor` of this list", decode)
}

/// Returns the page of at most `limit` entries, and the cursor of its last entry if more entries follow.
///
/// `entries` holds one entry more than the page if more entries follow.
pub(super) fn page<T>(
    mut entries: Vec<T>,
    limit: usize,
    mark: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let more = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().filter(|_| more);
    let next = last.map(|entry| URL_SAFE_NO_PAD.encode(mark(entry)));
    (entries, next)
}

fn decode<T: FromStr>(text: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    String::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_a_mark_only_if_more_follows() {
        let mark = |entry: &u32| entry.to_string();
        assert_eq!(page(vec![1, 2], 2, mark), (vec![1, 2], None));
        let (entries, next) = page(vec![1, 2, 3], 2, mark);
        assert_eq!(entries, [1, 2]);
        assert_eq!(decode::<u32>(&next.unwrap()), Some(2));
        assert_eq!(page(Vec::new(), 2, mark), (Vec::new(), None));
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        for odd in ["!", "AAAA", "MQ==", "eA"] {
            assert_eq!(decode::<u32>(odd), None, "{odd}");
        }
    }
}
