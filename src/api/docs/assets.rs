//! Style, scripts and icon of the documentation, served from the binary. Browsers cache them for long, because their
//! address changes with their content.

use std::{io::Read, sync::LazyLock};

use crate::web::{Problem, asset_version};
use axum::{
    extract::{Path, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, header};

/// The path of an asset.
pub(super) const PATH: &str = "/docs/assets/{version}/{name}";

const SCRIPT: &str = "text/javascript; charset=utf-8";

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ASSETS: [Asset; 5] = [
    Asset {
        name: "docs.css",
        kind: "text/css; charset=utf-8",
        content: include_bytes!("assets/docs.css"),
    },
    Asset {
        name: "reference.js",
        kind: SCRIPT,
        content: include_bytes!("assets/reference.js"),
    },
    // compressed; see `vendor/make`
    Asset {
        name: SCALAR,
        kind: SCRIPT,
        content: include_bytes!("vendor/scalar.js.gz"),
    },
    Asset {
        name: "scalar.licenses.txt",
        kind: "text/plain; charset=utf-8",
        content: include_bytes!("vendor/scalar.licenses.txt"),
    },
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        content: include_bytes!("assets/icon.svg"),
    },
];

/// The asset that is kept compressed.
const SCALAR: &str = "scalar.js";

/// The base address of this build's assets. It ends with a hash of their content.
static PLACE: LazyLock<String> = LazyLock::new(|| {
    let version = asset_version(ASSETS.iter().map(|asset| asset.content));
    format!("/docs/assets/{version}")
});

/// Scalar's script, for clients that do not take gzip. All browsers do, so it is decompressed when first asked for.
static PLAIN_SCALAR: LazyLock<Bytes> = LazyLock::new(|| {
    let mut plain = Vec::new();
    let compressed = ASSETS.iter().find(|asset| asset.name == SCALAR);
    let compressed = compressed.map_or(&[][..], |asset| asset.content);
    match GzDecoder::new(compressed).read_to_end(&mut plain) {
        Ok(_) => plain.into(),
        // a test decompresses the whole
        Err(_) => Bytes::new(),
    }
});

/// Returns the base address of this build's assets.
pub(super) fn place() -> &'static str {
    &PLACE
}

/// Serves an asset. A page of another version of the relay, which stands behind the same address during an upgrade,
/// also gets what this build has, but is told not to keep it.
pub(super) async fn read_asset(
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("There is no such page or call.");
    let Path((version, name)) = path.map_err(|_| unknown())?;
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(unknown)?;
    let mut response = if asset.name != SCALAR {
        Bytes::from_static(asset.content).into_response()
    } else if takes_gzip(&headers) {
        let gzip = [(header::CONTENT_ENCODING, "gzip")];
        (gzip, Bytes::from_static(asset.content)).into_response()
    } else {
        PLAIN_SCALAR.clone().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if place().strip_prefix("/docs/assets/") == Some(&version) {
        let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(header::CACHE_CONTROL, forever);
    }
    Ok(response)
}

/// Returns whether a client takes gzip (RFC 9110, section 12.5.3). One that does not say gets the plain content.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let given = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings: Vec<_> = given
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(weighted)
        .collect();
    let weight_of = |names: &[&str]| {
        let named = |name: &str| names.iter().any(|one| one.eq_ignore_ascii_case(name));
        let found = codings.iter().find(|(name, _)| named(name));
        found.map(|(_, weight)| *weight)
    };
    let weight = weight_of(&["gzip", "x-gzip"]).or_else(|| weight_of(&["*"]));
    weight.is_some_and(|weight| weight > 0.0)
}

/// Reads a coding and its weight, as in `gzip;q=0.5`.
fn weighted(coding: &str) -> (&str, f32) {
    let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
    let weight = parameter.trim().strip_prefix("q=");
    let weight = weight.and_then(|text| text.trim().parse().ok());
    (name.trim(), weight.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// The SHA-256 of `dist/browser/standalone.js` in the package that `vendor/make` names.
    const SCALAR_SHA256: &str = "dcb027152bf20bf2f6dcd66e8f9fb073c1a9e274cf0b94b939a7d99ab8947060";

    #[test]
    fn the_vendored_script_is_the_published_one() {
        let hash = Sha256::digest(&*PLAIN_SCALAR);
        let hash: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash.concat(), SCALAR_SHA256);
        assert!(include_str!("vendor/make").contains(SCALAR_SHA256));
    }

    #[test]
    fn a_client_gets_gzip_only_if_it_takes_it() {
        for (given, takes) in [
            (&["gzip, deflate, br, zstd"][..], true),
            (&["br", "x-gzip"], true),
            (&["GZIP;q=0.1"], true),
            (&["*"], true),
            (&["br;q=1.0, gzip;q=0, *;q=0.5"], false),
            (&["br, *; q=0"], false),
            (&["identity"], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(takes_gzip(&headers), takes, "{given:?}");
        }
    }

    #[test]
    fn our_own_files_fetch_nothing_from_elsewhere_and_write_no_html() {
        for name in ["docs.css", "reference.js"] {
            let asset = ASSETS.iter().find(|asset| asset.name == name).unwrap();
            let text = str::from_utf8(asset.content).unwrap();
            for risky in [
                "http://",
                "https://",
                "@import",
                "url(",
                "innerHTML",
                "eval(",
            ] {
                assert!(!text.contains(risky), "{name}: {risky}");
            }
        }
    }
}
