//! Basiq's `filter` parameter, as far as the sandbox supports it: `name.eq('value')`, joined by commas.

use serde::Deserialize;

use crate::error::ApiError;

/// The query of a list call.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    filter: Option<String>,
}

/// The conditions that items of a list must meet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ListFilter(Vec<(String, String)>);

impl ListQuery {
    /// Parses the filter. Fails if it names a field outside `known`.
    pub(super) fn filter(&self, known: &[&str]) -> Result<ListFilter, ApiError> {
        let Some(text) = self.filter.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(ListFilter::default());
        };
        let terms = text.split(',').map(|term| parse(term.trim()));
        terms
            .map(|term| term.filter(|(name, _)| known.contains(&name.as_str())))
            .collect::<Option<_>>()
            .map(ListFilter)
            .ok_or_else(|| {
                let detail = "The filter is in a form that is invalid or not supported.";
                ApiError::not_valid("filter", detail)
            })
    }
}

impl ListFilter {
    /// Returns whether an item whose `name` has this value stays in the list.
    pub(super) fn lets(&self, name: &str, value: &str) -> bool {
        let mut terms = self.0.iter();
        terms.all(|(asked, wanted)| asked != name || wanted == value)
    }
}

fn parse(term: &str) -> Option<(String, String)> {
    let (name, rest) = term.split_once(".eq(")?;
    let value = rest.strip_suffix(')')?.trim_matches(['\'', '"']);
    Some((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Result<ListFilter, ApiError> {
        let query = ListQuery {
            filter: Some(text.to_owned()),
        };
        query.filter(&["connection.id", "institution.id"])
    }

    #[test]
    fn a_filter_narrows_by_each_of_its_terms() {
        let both = filter("institution.id.eq('AU00000'),connection.id.eq(\"c\")").unwrap();
        assert!(both.lets("institution.id", "AU00000") && both.lets("connection.id", "c"));
        assert!(!both.lets("institution.id", "AU00002"));
        assert!(both.lets("account.id", "anything"));
        assert_eq!(filter(""), Ok(ListFilter::default()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "x",
            "balance.eq('1')",
            "connection.id.gt('1')",
            "connection.id.eq('1'",
        ] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
