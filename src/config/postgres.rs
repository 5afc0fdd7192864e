//! Where a PostgreSQL database is.

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

/// The address of a PostgreSQL database. Its password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Url);

impl PostgresUrl {
    /// Reads `postgres://[USER[:PASSWORD]@][HOST][:PORT]/DATABASE[?…]`; if the text is something else,
    /// says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE is allowed";
        let url =
            Url::parse(text).map_err(|error| format!("{form}, and this is no URL: {error}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.fragment().is_some() {
            return Err(form.to_owned());
        }
        let unknown = url
            .query_pairs()
            .find(|(name, _)| !PARAMETERS.contains(&&**name));
        if let Some((name, _)) = unknown {
            let name = name.escape_debug();
            return Err(format!(
                "the parameter `{name}` is unknown; allowed are {}",
                PARAMETERS.join(", ")
            ));
        }
        let names_database =
            url.path().len() > 1 || url.query_pairs().any(|(name, _)| name == "dbname");
        if !names_database {
            return Err(format!("{form}, with a database"));
        }
        Ok(Self(url))
    }

    /// The address, with the password in it.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

/// Host, port and database.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(f, "{}", url.host_str().unwrap_or("localhost"))?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", url.path())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_password_to_itself() {
        let url = PostgresUrl::parse("postgres://me:hush@db.example:5433/relay?sslmode=require");
        let url = url.unwrap();
        assert_eq!(url.to_string(), "db.example:5433/relay");
        assert!(!format!("{url:?}").contains("hush"));
        assert!(url.expose().as_str().contains("hush"));
    }

    #[test]
    fn what_is_no_address_of_a_database_is_told_without_its_password() {
        for bad in [
            "mysql://me:hush@db/relay",
            "postgres://me:hush@db",
            "postgres://me:hush@db/",
            "postgres://me:hush@db/relay#1",
            "postgres://me:hush@db:port/relay",
            "postgres://me:hush@db/relay?sslmod=require",
        ] {
            let allowed = PostgresUrl::parse(bad).unwrap_err();
            assert!(!allowed.contains("hush"), "{allowed}");
        }
        let allowed = PostgresUrl::parse("postgres://db/relay?sslmod=x").unwrap_err();
        assert!(allowed.starts_with("the parameter `sslmod` is unknown"));
        assert!(PostgresUrl::parse("postgresql:///relay?host=/run/postgresql").is_ok());
    }
}
