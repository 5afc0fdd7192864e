//! Parses values of the command line that several commands take. Each error says what is allowed.

use std::{net::SocketAddr, time::Duration};

use url::Url;

use crate::config::parse_duration;

/// Parses a callback URL. Whether the relay accepts it, the relay says.
pub(super) fn callback_url(text: &str) -> Result<Url, String> {
    let allowed = "must begin with https:// (or http://, if the relay allows it), such as \
        https://app.example/hooks/bank";
    match Url::parse(text) {
        Ok(url) if url.has_host() => Ok(url),
        Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => Err(allowed.to_owned()),
        Err(error) => Err(format!("{error}; a URL {allowed}")),
    }
}

/// Parses an address to listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "an IP address with a port is allowed, such as 127.0.0.1:8091 or [::1]:8091; port 0 takes a free one"
            .to_owned()
    })
}

/// Parses a duration. A number without a unit means milliseconds.
pub(super) fn in_millis(text: &str) -> Result<Duration, String> {
    in_unit(text, Duration::from_millis, "milliseconds, such as 500")
}

/// Parses a duration. A number without a unit means seconds.
pub(super) fn in_seconds(text: &str) -> Result<Duration, String> {
    in_unit(text, Duration::from_secs, "seconds, such as 3")
}

fn in_unit(text: &str, unit: fn(u64) -> Duration, written: &str) -> Result<Duration, String> {
    let number = text.parse::<u64>().ok().map(unit);
    number
        .or_else(|| parse_duration(text))
        .ok_or_else(|| format!("allowed are {written}, and durations such as 500ms, 5s or 10m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_scheme_is_told_how_it_begins() {
        for bad in ["hooks/bank", "app.example/hook", "mailto:a@app.example"] {
            let told = callback_url(bad).unwrap_err();
            assert!(
                told.starts_with("must begin with https://"),
                "{bad}: {told}"
            );
        }
        let told = callback_url("https://app.example:port/").unwrap_err();
        assert!(
            told.starts_with("invalid port number; a URL must begin"),
            "{told}"
        );
        assert!(callback_url("http://127.0.0.1:8091/hook").is_ok());
    }

    #[test]
    fn a_duration_has_a_unit_or_the_one_of_its_option() {
        let millis = |number| Ok(Duration::from_millis(number));
        assert_eq!(in_millis("500"), millis(500));
        assert_eq!(in_millis("2s"), millis(2000));
        assert_eq!(in_seconds("3"), millis(3000));
        assert_eq!(in_seconds("500ms"), millis(500));
        for bad in ["", "-1", "1.5", "soon"] {
            assert!(in_seconds(bad).unwrap_err().contains("500ms, 5s"), "{bad}");
        }
    }
}
