//! The operators that a file names, each with a token of its own.

use relay_domain::OperatorName;
use secrecy::{ExposeSecret, SecretString};

use crate::config::value::{Allowed, admin_token};

/// An operator whom the settings name, with the token that the operator logs in with.
#[derive(Debug, Clone)]
pub struct OperatorToken {
    /// The line that names the operator, counted from 1.
    pub line: usize,
    /// The operator's name.
    pub name: OperatorName,
    /// The token, which only this operator has.
    pub token: SecretString,
}

/// Parses `NAME:TOKEN` lines. Empty lines and lines that begin with `#` are left out. The error names the line, and
/// never repeats the token.
pub(super) fn operators(text: &str) -> Result<Vec<OperatorToken>, Allowed> {
    let mut operators: Vec<OperatorToken> = Vec::new();
    for (place, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = place + 1;
        let operator = parse(line, text).map_err(|allowed| format!("line {line}: {allowed}"))?;
        if let Some(fault) = clash(&operators, &operator) {
            return Err(format!("line {line}: {fault}"));
        }
        operators.push(operator);
    }
    Ok(operators)
}

fn parse(line: usize, text: &str) -> Result<OperatorToken, Allowed> {
    let (name, token) = text
        .split_once(':')
        .ok_or("NAME:TOKEN is allowed, and a comment begins with #")?;
    let name = name.trim().parse::<OperatorName>();
    let token = admin_token(token.trim());
    Ok(OperatorToken {
        line,
        name: name.map_err(|error| error.to_string())?,
        token: token.map_err(|allowed| format!("of a token, {allowed}"))?,
    })
}

/// Returns what an operator has in common with one before it.
fn clash(before: &[OperatorToken], operator: &OperatorToken) -> Option<String> {
    let token = operator.token.expose_secret();
    before.iter().find_map(|other| {
        if other.name == operator.name {
            Some(format!("line {} has the same name", other.line))
        } else if other.token.expose_secret() == token {
            Some(format!("line {} has the same token", other.line))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "token-of-24-characters-1";
    const TWO: &str = "token-of-24-characters-2";

    #[test]
    fn each_line_is_an_operator_and_comments_are_left_out() {
        let text = format!("\n# who may what\nalice:{ONE}\r\n\n  bob : {TWO}:x  \n");
        let operators = operators(&text).unwrap();
        let read = operators.iter().map(|one| {
            let token = one.token.expose_secret().to_owned();
            (one.line, one.name.to_string(), token)
        });
        let expected = [
            (3, "alice".to_owned(), ONE.to_owned()),
            (5, "bob".to_owned(), format!("{TWO}:x")),
        ];
        assert_eq!(read.collect::<Vec<_>>(), expected);
        assert!(super::operators(" \n#\n").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named_without_its_token() {
        for (line, fault) in [
            (ONE.to_owned(), "NAME:TOKEN is allowed"),
            (format!(":{ONE}"), "a name has 1 to 64"),
            (format!("a b:{ONE}"), "a name has 1 to 64"),
            (format!("admin:{ONE}"), "the relay's own"),
            (format!("bob:{}", &ONE[..23]), "of a token, 24 to 4096"),
            (format!("bob:{ONE} x"), "of a token, 24 to 4096"),
            ("bob:".to_owned(), "of a token, 24 to 4096"),
            (format!("alice:{ONE}"), "line 1 has the same name"),
            (format!("bob:{TWO}"), "line 1 has the same token"),
        ] {
            let told = operators(&format!("alice:{TWO}\n\n{line}\n")).unwrap_err();
            assert!(
                told.starts_with("line 3: ") && told.contains(fault),
                "{told}"
            );
            assert!(!told.contains("token-of-24"), "{told}");
        }
    }
}
