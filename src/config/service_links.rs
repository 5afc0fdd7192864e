//! Distinguishes variables that Kubernetes sets for a Service from settings.
//!
//! Kubernetes sets such variables in each container of a namespace, for each Service there. If a Service is called
//! `relay`, `relay-metrics` or `relay-canary`, its variables begin with `RELAY_`. Without this check, the relay would
//! report them as unknown settings and not start.

use std::{iter, net::IpAddr};

use crate::config::setting::PREFIX;

/// The protocols of a Service's port, as the names of its variables contain them.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Whether Kubernetes sets this variable for a Service whose name is `relay` or begins with `relay-`. The value
/// counts as well: `RELAY_PORT=8080` comes from a user who mistook it for a setting.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    // the part before the ending is the rest of the Service's name, which may contain any word
    let later = rest
        .match_indices('_')
        .filter_map(|(at, _)| rest.get(at + 1..));
    let mut ends = iter::once(rest).chain(later);
    is_upper_case(rest) && ends.any(|end| fits(end, value))
}

fn is_upper_case(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether a name ends as such a variable does, and its value has the form that Kubernetes writes.
fn fits(end: &str, value: &str) -> bool {
    match end {
        "SERVICE_HOST" => is_address(value),
        "SERVICE_PORT" => is_port(value),
        "PORT" => is_link(value),
        _ => match end.strip_prefix("SERVICE_PORT_") {
            // a named port
            Some(port_name) => !port_name.is_empty() && is_port(value),
            None => end
                .strip_prefix("PORT_")
                .is_some_and(|port| fits_port(port, value)),
        },
    }
}

/// Whether this is `8080_TCP`, `8080_TCP_PROTO`, `8080_TCP_PORT` or `8080_TCP_ADDR`, with a value of the right form.
fn fits_port(text: &str, value: &str) -> bool {
    let mut words = text.split('_');
    let (port, protocol) = (words.next(), words.next());
    let (field, end) = (words.next(), words.next());
    let is_whole = port.is_some_and(is_port)
        && protocol.is_some_and(|protocol| PROTOCOLS.contains(&protocol))
        && end.is_none();
    is_whole
        && match field {
            None => is_link(value),
            Some("PROTO") => is_protocol(value),
            Some("PORT") => is_port(value),
            Some("ADDR") => is_address(value),
            Some(_) => false,
        }
}

/// Whether this has the form `tcp://10.0.0.7:8080`.
fn is_link(value: &str) -> bool {
    value
        .split_once("://")
        .is_some_and(|(protocol, _)| is_protocol(protocol))
}

fn is_protocol(value: &str) -> bool {
    PROTOCOLS
        .iter()
        .any(|protocol| protocol.to_ascii_lowercase() == value)
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok()
}

fn is_address(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_for_a_service_called_relay_is_no_setting() {
        for (name, value) in [
            ("RELAY_SERVICE_HOST", "10.0.0.7"),
            ("RELAY_SERVICE_HOST", "fd00::7"),
            ("RELAY_SERVICE_PORT", "8080"),
            ("RELAY_SERVICE_PORT_HTTP", "8080"),
            ("RELAY_SERVICE_PORT_HTTP_METRICS", "9090"),
            ("RELAY_PORT", "tcp://10.0.0.7:8080"),
            ("RELAY_PORT", "udp://[fd00::7]:53"),
            ("RELAY_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("RELAY_PORT_8080_TCP_PROTO", "tcp"),
            ("RELAY_PORT_8080_TCP_PORT", "8080"),
            ("RELAY_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("RELAY_PORT_53_UDP", "udp://10.0.0.7:53"),
            ("RELAY_PORT_53_UDP_PROTO", "udp"),
            ("RELAY_PORT_9_SCTP", "sctp://10.0.0.7:9"),
            ("RELAY_METRICS_SERVICE_HOST", "10.0.0.8"),
            ("RELAY_METRICS_PORT", "tcp://10.0.0.8:9090"),
            ("RELAY_METRICS_PORT_9090_TCP_ADDR", "10.0.0.8"),
            ("RELAY_CANARY_2_SERVICE_PORT_HTTP", "8080"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn what_only_looks_so_is_still_asked_about() {
        for (name, value) in [
            ("RELAY_PORT", "8080"),
            ("RELAY_PORT", ""),
            ("RELAY_PORT", "http://10.0.0.7:8080"),
            ("RELAY_SERVICE_HOST", "relay.example"),
            ("RELAY_SERVICE_PORT", "http"),
            ("RELAY_SERVICE_PORT_", "8080"),
            ("RELAY_PORT_8080", "tcp://10.0.0.7:8080"),
            ("RELAY_PORT_8080_TCP_PROTO", "http"),
            ("RELAY_PORT_8080_TCP_HOST", "10.0.0.7"),
            ("RELAY_PORT_8080_TCP_ADDR_X", "10.0.0.7"),
            ("RELAY_PORT_99999_TCP", "tcp://10.0.0.7:99999"),
            ("RELAY_PORT_8080_HTTP", "tcp://10.0.0.7:8080"),
            ("RELAY_port", "tcp://10.0.0.7:8080"),
            ("RELAY_METRICS_LISTEN", "tcp://10.0.0.7:8080"),
            ("RELAY_SERVICE", "10.0.0.7"),
            ("RELAYER_SERVICE_HOST", "10.0.0.7"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }

    #[test]
    fn no_setting_can_be_taken_for_one() {
        for setting in crate::config::SETTINGS.iter() {
            for value in ["10.0.0.7", "8080", "tcp://10.0.0.7:8080", "tcp"] {
                assert!(!is_service_link(setting.name, value), "{}", setting.name);
            }
        }
    }
}
