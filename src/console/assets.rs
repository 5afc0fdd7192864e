//! Style, scripts and icon, served from the binary. Browsers cache them for long, because their address changes with
//! their content.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;

use crate::{
    console::{fault::ErrorPage, state::ConsoleState},
    web::asset_version,
};

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("assets/console.css"),
    },
    Asset {
        name: "console.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("assets/console.js"),
    },
    Asset {
        name: "htmx.min.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("assets/htmx.min.js"),
    },
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        text: include_str!("assets/icon.svg"),
    },
];

/// The base address of this build's assets, which contains a hash of their content.
static BASE_ADDRESS: LazyLock<String> = LazyLock::new(|| {
    let version = asset_version(ASSETS.iter().map(|asset| asset.text.as_bytes()));
    format!("/console/assets/{version}")
});

/// The base address of this build's assets, which contains a hash of their content.
pub(super) fn base_address() -> &'static str {
    &BASE_ADDRESS
}

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/assets/{version}/{name}", get(asset))
}

/// Serves an asset. A page of another version of the relay, which stands behind the same address during an upgrade,
/// also gets what this build has, but is told not to keep it.
async fn asset(
    State(state): State<ConsoleState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ErrorPage> {
    let unknown = || ErrorPage::nothing("There is no such file in the console.");
    let Path((version, name)) = path.map_err(|_| unknown())?;
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let found = found.filter(|_| state.parts.admin.is_set());
    let asset = found.ok_or_else(unknown)?;
    let is_current = base_address().strip_prefix("/console/assets/") == Some(&version);
    let caching = if is_current {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, caching),
    ];
    Ok((headers, asset.text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fetched_from_elsewhere_or_evaluated() {
        for asset in ASSETS
            .iter()
            .filter(|asset| asset.name.starts_with("console"))
        {
            for risky in [
                "http://",
                "https://",
                "@import",
                "url(",
                "innerHTML",
                "eval(",
            ] {
                assert!(!asset.text.contains(risky), "{}: {risky}", asset.name);
            }
        }
    }
}
