//! The OpenAPI document in the repository equals the document that the program prints.

use std::{fs, path::Path};

use basiq_relay::api;

#[test]
fn the_checked_in_document_is_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let checked_in = fs::read_to_string(path).unwrap();
    let printed = api::document().to_pretty_json().unwrap();
    assert!(
        checked_in.trim_end() == printed,
        "run `cargo run -- openapi > openapi/openapi.json` and look at the difference"
    );
}

#[test]
fn the_document_is_openapi_3_1_and_names_every_route() {
    let document = serde_json::to_value(api::document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/watch",
        "/watch/{watchId}",
        "/watch/{watchId}/redeliver",
        "/watch/{watchId}/mfa",
        "/deliveries",
        "/deliveries/redeliver",
        "/healthz",
        "/readyz",
        "/metrics",
        "/catalogue",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}
