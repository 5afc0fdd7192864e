//! Parses the text of one setting. Every error says what is allowed and does not repeat the text.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use relay_domain::http_url;
use secrecy::SecretString;
use url::Url;

use crate::config::{DatabaseUrl, EgressProxy, PostgresUrl};

/// The allowed values, in words for an error message.
pub(super) type Allowed = String;

/// The units of a duration, in milliseconds. `ms` must be tried before `s`, because both end in `s`.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Returns a parser of durations within bounds, such as `500ms`, `5s`, `10m`, `2h` or `7d`.
pub(super) fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, Allowed> {
    move |text| {
        parse_duration(text)
            .filter(|duration| bounds.contains(duration))
            .ok_or_else(|| {
                format!(
                    "a duration from {} to {} is allowed, written such as 500ms, 5s, 10m, 2h or 7d",
                    write_duration(*bounds.start()),
                    write_duration(*bounds.end()),
                )
            })
    }
}

/// Returns a parser of one or more durations within bounds, separated by commas.
pub(super) fn durations(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Vec<Duration>, Allowed> {
    let one = duration(bounds);
    move |text| {
        text.split(',')
            .map(|item| one(item.trim()))
            .collect::<Result<_, _>>()
            .map_err(|allowed| {
                format!("durations separated by commas are allowed; of each, {allowed}")
            })
    }
}

/// Parses a duration such as `500ms`, `5s`, `10m`, `2h` or `7d`. Returns none for any other text.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, millis) = UNITS
        .iter()
        .find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)))?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    count.checked_mul(millis).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that needs no fraction.
#[must_use]
pub fn write_duration(duration: Duration) -> String {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    UNITS
        .iter()
        .rev()
        .find(|(_, millis)| total >= *millis && total % millis == 0)
        .map_or_else(
            || "0s".to_owned(),
            |(unit, millis)| format!("{}{unit}", total / millis),
        )
}

/// Returns a parser of whole numbers within bounds.
pub(super) fn number<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, Allowed>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        text.parse()
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                format!(
                    "a whole number from {} to {} is allowed",
                    bounds.start(),
                    bounds.end()
                )
            })
    }
}

/// Parses `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, Allowed> {
    text.parse()
        .map_err(|_| "true or false is allowed".to_owned())
}

/// Parses an IP address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, Allowed> {
    text.parse().map_err(|_| {
        "an IP address with a port is allowed, such as 127.0.0.1:8080 or [::1]:8080".to_owned()
    })
}

/// Parses the store's address. Errors never repeat the address, because it may hold a password.
pub(super) fn database(text: &str) -> Result<DatabaseUrl, Allowed> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return PostgresUrl::parse(text).map(DatabaseUrl::Postgres);
    }
    text.strip_prefix("sqlite://")
        .filter(|path| !path.is_empty() && !path.contains(['?', '#']) && !path.contains(":memory:"))
        .map(|path| DatabaseUrl::Sqlite(PathBuf::from(path)))
        .ok_or_else(|| {
            "sqlite://PATH is allowed, such as sqlite://relay.db, without options, and \
             postgres://USER:PASSWORD@HOST/DATABASE"
                .to_owned()
        })
}

/// Parses the address of an HTTP proxy.
pub(super) fn proxy(text: &str) -> Result<EgressProxy, Allowed> {
    EgressProxy::parse(text)
        .ok_or_else(|| "http://[USER:PASSWORD@]HOST[:PORT] is allowed, without a path".to_owned())
}

/// Parses a base address and removes the slash at its end.
pub(super) fn base_url(text: &str) -> Result<Url, Allowed> {
    let mut url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .ok_or_else(|| {
            "an https:// or http:// address is allowed, without user, query or fragment".to_owned()
        })?;
    http_url::check(&url).map_err(|_| {
        "the host must be a name that DNS and TLS know, or an IP address, and the port not 0"
            .to_owned()
    })?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Parses origins as browsers write them, such as `https://app.example`, separated by commas.
pub(super) fn origins(text: &str) -> Result<Vec<String>, Allowed> {
    let items = text.split(',').map(str::trim);
    let origins = items.filter(|item| !item.is_empty()).map(|item| {
        base_url(item)
            .ok()
            .filter(|url| url.path() == "/" && !item.contains('*'))
            .map(|url| url.origin().ascii_serialization())
            .ok_or_else(|| {
                "origins separated by commas are allowed, such as https://app.example, without a path"
                    .to_owned()
            })
    });
    origins.collect()
}

/// Parses a secret that is sent verbatim in a header. An empty text means no secret.
pub(super) fn secret(text: &str) -> Result<SecretString, Allowed> {
    if text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned().into())
    } else {
        Err(
            "up to 4096 printable ASCII characters without spaces are allowed, and no word before"
                .to_owned(),
        )
    }
}

/// The minimum number of characters of the admin token. A shorter one can be guessed.
const ADMIN_TOKEN_MIN: usize = 24;

/// Parses the token of the admin API and the console.
pub(super) fn admin_token(text: &str) -> Result<SecretString, Allowed> {
    let token = secret(text).ok();
    let long_enough = token.filter(|_| text.len() >= ADMIN_TOKEN_MIN);
    long_enough.ok_or_else(|| {
        format!(
            "{ADMIN_TOKEN_MIN} to 4096 printable ASCII characters without spaces are allowed, such as \
             `openssl rand -hex 32` prints"
        )
    })
}

/// Parses networks such as `10.0.0.0/8`, separated by commas. A plain address means only itself.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, Allowed> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            item.parse::<IpNet>()
                .map(|net| net.trunc())
                .or_else(|_| item.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    "networks separated by commas are allowed, such as 10.0.0.0/8,fd00::/8"
                        .to_owned()
                })
        })
        .collect()
}

/// Parses the path of a file, which must exist.
pub(super) fn file(text: &str) -> Result<PathBuf, Allowed> {
    let path = PathBuf::from(text);
    if path.is_file() {
        Ok(path)
    } else {
        Err("there is no file at this path".to_owned())
    }
}

/// Accepts any text.
#[expect(clippy::unnecessary_wraps, reason = "every reader has this shape")]
pub(super) fn text(text: &str) -> Result<String, Allowed> {
    Ok(text.to_owned())
}

/// Wraps a parser so that an empty text means none.
pub(super) fn optional<T>(
    read: impl Fn(&str) -> Result<T, Allowed>,
) -> impl Fn(&str) -> Result<Option<T>, Allowed> {
    move |text| {
        if text.is_empty() {
            Ok(None)
        } else {
            read(text).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)));
        }
        for bad in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "5 s",
            "5S",
            "1h30m",
            "1w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_keep_their_bounds_and_say_them() {
        let read = duration(Duration::from_secs(1)..=Duration::from_hours(2));
        assert!(read("1s").is_ok());
        assert!(read("2h").is_ok());
        let allowed = read("999ms").unwrap_err();
        assert!(allowed.contains("from 1s to 2h"), "{allowed}");
        assert!(durations(Duration::from_secs(1)..=Duration::from_hours(2))("1s, 2s,3h").is_err());
    }

    #[test]
    fn database_addresses_are_files_of_sqlite_or_of_postgresql() {
        assert_eq!(
            database("sqlite:///var/lib/relay.db"),
            Ok(DatabaseUrl::Sqlite("/var/lib/relay.db".into()))
        );
        for bad in [
            "",
            "relay.db",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://a?mode=ro",
        ] {
            assert!(database(bad).is_err(), "{bad}");
        }
        let postgres = database("postgres://me:hidden@db/relay").unwrap();
        assert!(matches!(postgres, DatabaseUrl::Postgres(_)));
        assert!(database("postgres://me:hidden@db").is_err());
    }

    #[test]
    fn base_addresses_lose_the_slash_at_their_end_and_nothing_else() {
        assert_eq!(base_url("http://a.example/x/").unwrap().path(), "/x");
        assert_eq!(
            base_url("https://a.example").unwrap().as_str(),
            "https://a.example/"
        );
        for bad in [
            "",
            "a.example",
            "ftp://a.example",
            "https://u:p@a.example",
            "https://a?b",
            "https://exa{m}ple.com",
            "https://a..b",
            "http://a.example:0",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        assert_eq!(origins(""), Ok(vec![]));
        let read = origins("https://App.example/, http://localhost:3000,https://a.example:443");
        let expected = [
            "https://app.example",
            "http://localhost:3000",
            "https://a.example",
        ];
        assert_eq!(read.unwrap(), expected);
        for bad in [
            "*",
            "null",
            "app.example",
            "https://a.example/x",
            "https://*.example",
        ] {
            assert!(origins(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_may_be_none_several_or_single_addresses() {
        assert_eq!(networks("").unwrap(), Vec::<IpNet>::new());
        let read = networks("10.1.2.3/8, fd00::/8,192.0.2.7").unwrap();
        let expected: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]
            .iter()
            .map(|net| net.parse().unwrap())
            .collect();
        assert_eq!(read, expected);
        assert!(networks("10.0.0.0/33").is_err());
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_it_was_written(millis in 0_u64..=u64::MAX / 86_400_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&write_duration(duration)), Some(duration));
        }
    }
}
