//! The person's answer to a challenge. The relay passes it on, and never stores or prints it.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// An answer to an open challenge, with one text for each of its inputs.
pub struct MfaAnswer(Vec<SecretString>);

impl MfaAnswer {
    /// The maximum number of texts in an answer. Banks ask for one or two.
    pub const MOST_TEXTS: usize = 10;
    /// The maximum length of a text, in characters.
    pub const LONGEST_TEXT: usize = 256;

    /// Makes an answer of 1 to 10 texts, each of 1 to 256 characters. Returns none if the texts are outside these
    /// limits.
    #[must_use]
    pub fn new(texts: Vec<String>) -> Option<Self> {
        let fits = (1..=Self::MOST_TEXTS).contains(&texts.len())
            && texts.iter().all(|text| Self::is_text(text));
        let secrets = texts.into_iter().map(SecretString::from);
        let answer = Self(secrets.collect());
        fits.then_some(answer)
    }

    /// Returns whether a text may be a part of an answer.
    #[must_use]
    pub fn is_text(text: &str) -> bool {
        !text.is_empty() && text.chars().nth(Self::LONGEST_TEXT).is_none()
    }

    /// Returns the texts, to pass them on.
    pub fn expose(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ExposeSecret::expose_secret)
    }

    /// Returns whether `text` repeats a part of the answer.
    #[must_use]
    pub fn is_repeated_in(&self, text: &str) -> bool {
        self.expose().any(|part| text.contains(part))
    }
}

impl fmt::Debug for MfaAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Option<MfaAnswer> {
        MfaAnswer::new(texts.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn an_answer_has_one_to_ten_texts_of_bounded_length() {
        let longest = "é".repeat(256);
        assert!(of(&[&longest]).is_some() && of(&["a"; 10]).is_some());
        let too_long = "a".repeat(257);
        for bad in [vec![], vec!["a"; 11], vec![""], vec!["a", &too_long]] {
            assert!(of(&bad).is_none(), "{}", bad.len());
        }
    }

    #[test]
    fn an_answer_is_never_printed() {
        let answer = of(&["1234", "Hooli"]).unwrap();
        assert_eq!(
            format!("{answer:?} {:#?}", Some(&answer)),
            "*** Some(\n    ***,\n)"
        );
        assert!(answer.is_repeated_in("wrong: Hooli") && !answer.is_repeated_in("wrong"));
        assert_eq!(answer.expose().collect::<Vec<_>>(), ["1234", "Hooli"]);
    }
}
