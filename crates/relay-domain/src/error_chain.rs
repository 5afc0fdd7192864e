//! Formats errors for the log, with all their causes on one line.

use std::{error::Error, fmt};

/// An error with all its causes, outermost first. Each text appears once, because many errors repeat the text of
/// their source.
#[derive(Clone, Copy)]
pub struct ErrorChain<'e>(pub &'e (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = self.0;
        let mut told = error.to_string();
        while let Some(source) = error.source() {
            let text = source.to_string();
            if !told.contains(&text) {
                told.push_str(": ");
                told.push_str(&text);
            }
            error = source;
        }
        f.write_str(&told)
    }
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("the host is unknown")]
    struct Unknown;

    #[derive(Debug, Error)]
    #[error("no connection: {0}")]
    struct Repeats(#[source] Unknown);

    #[derive(Debug, Error)]
    #[error("the store cannot be used now")]
    struct Outer(#[source] Repeats);

    #[test]
    fn every_cause_is_told_once_and_the_outermost_first() {
        let error = Outer(Repeats(Unknown));
        assert_eq!(
            ErrorChain(&error).to_string(),
            "the store cannot be used now: no connection: the host is unknown"
        );
    }
}
