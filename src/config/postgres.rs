//! The address of a PostgreSQL database.

use std::fmt;

use url::Url;

/// The parameters that an address may have.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
];

/// The values that `sslmode` may have.
const SSL_MODES: [&str; 6] = [
    "allow",
    "disable",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// The form of an address, for error messages.
const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE is allowed";

/// A hint at a frequent mistake: characters that are not percent-encoded.
const ENCODE: &str = "in USER and PASSWORD `/`, `?`, `#` and `@` are written %2F, %3F, %23 and %40";

/// The address of a PostgreSQL database. `Debug` does not show the address, because any part of it may hold a
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Url);

impl PostgresUrl {
    /// Parses `postgres://[USER[:PASSWORD]@][HOST][:PORT]/DATABASE[?…]`. The error says what is wrong and what is
    /// allowed, and repeats nothing of the text that may be secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("{FORM}, and this is no URL: {error}; {ENCODE}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(FORM.to_owned());
        }
        if url.fragment().is_some() || url.path().contains('@') {
            return Err(format!("{FORM}; {ENCODE}"));
        }
        for (name, value) in url.query_pairs() {
            check_parameter(&name, &value)?;
        }
        let names_database =
            url.path().len() > 1 || url.query_pairs().any(|(name, _)| name == "dbname");
        if !names_database {
            return Err(format!("{FORM}, with a database"));
        }
        Ok(Self(url))
    }

    /// Returns the address, with the password in it.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

/// Checks one parameter. The error repeats a name only if it is nearly a known one. Otherwise, it may be part of a
/// password that contains a `?`.
fn check_parameter(name: &str, value: &str) -> Result<(), String> {
    let allowed = PARAMETERS.join(", ");
    if !PARAMETERS.contains(&name) {
        let near = PARAMETERS
            .iter()
            .find(|known| strsim::damerau_levenshtein(known, name) <= 1);
        return Err(match near {
            Some(near) => format!(
                "the parameter `{}` is unknown; did you mean {near}; allowed are {allowed}",
                name.escape_debug()
            ),
            None => format!("it has an unknown parameter; allowed are {allowed}; {ENCODE}"),
        });
    }
    let is_valid = match name {
        "sslmode" => SSL_MODES.contains(&value.to_ascii_lowercase().as_str()),
        "port" => value.parse::<u16>().is_ok(),
        "statement-cache-capacity" => value.parse::<usize>().is_ok(),
        _ => return Ok(()),
    };
    match (is_valid, name) {
        (true, _) => Ok(()),
        (false, "sslmode") => Err(format!(
            "the parameter `sslmode` is not valid; allowed are {}",
            SSL_MODES.join(", ")
        )),
        (false, _) => Err(format!(
            "the parameter `{name}` is not valid; a number is allowed"
        )),
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_itself_to_itself() {
        let url = PostgresUrl::parse("postgres://me:hush@db.example:5433/relay?sslmode=require");
        let url = url.unwrap();
        assert_eq!(format!("{url:?}"), "PostgresUrl(***)");
        assert!(url.expose().as_str().contains("hush"));
    }

    #[test]
    fn what_is_no_address_of_a_database_is_told_without_anything_of_it() {
        for bad in [
            "mysql://me:hush@db/relay",
            "jdbc:postgresql://db/relay?user=me&password=hush",
            "host=db user=me password=hush",
            "me:hush@db/relay",
            "postgres://me:hush@db",
            "postgres://me:hush@db/",
            "postgres://me:hush@db/relay#1",
            "postgres://me:a#hush@db/relay",
            "postgres://me:hush@db:port/relay",
            "postgres://me:12/hush@db/relay",
            "postgres://me:12?hush@db/relay",
            "postgres://me:hush@db/relay?sslmod=require",
            "postgres://db/relay?password=hush&sslmod=require",
            "postgres://db/relay?hush",
            "postgres://db/relay?sslmode=hush",
            "postgres://db/relay?port=hush",
            "postgres://db/relay?statement-cache-capacity=hush",
        ] {
            let allowed = PostgresUrl::parse(bad).unwrap_err();
            assert!(!allowed.contains("hush"), "{bad}: {allowed}");
        }
    }

    #[test]
    fn a_parameter_that_is_nearly_a_known_one_is_named() {
        let told = PostgresUrl::parse("postgres://db/relay?sslmod=x").unwrap_err();
        assert!(
            told.starts_with("the parameter `sslmod` is unknown; did you mean sslmode;"),
            "{told}"
        );
        let told = PostgresUrl::parse("postgres://db/relay?sslmode=on").unwrap_err();
        assert!(told.contains("verify-full"), "{told}");
        let told = PostgresUrl::parse("postgres://db/relay?port=x").unwrap_err();
        assert!(told.contains("`port` is not valid; a number"), "{told}");
    }

    #[test]
    fn every_value_of_the_ssl_mode_that_is_allowed_can_be_connected_with() {
        for mode in SSL_MODES {
            let text = format!("postgres://db/relay?sslmode={mode}");
            let url = PostgresUrl::parse(&text).unwrap();
            let options: Result<sqlx::postgres::PgConnectOptions, _> =
                url.expose().as_str().parse();
            assert!(options.is_ok(), "{mode}");
        }
        assert!(PostgresUrl::parse("postgresql:///relay?host=/run/postgresql").is_ok());
    }
}
