//! Style, scripts and icon, served from the binary. Browsers cache them for long, because their address changes with
//! their content.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;
use sha2::{Digest, Sha256};

use crate::console::{fault::ErrorPage, state::ConsoleState};

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
static PLACE: LazyLock<String> = LazyLock::new(|| {
    let all = ASSETS.iter().fold(Sha256::new(), |hash, asset| {
        hash.chain_update(asset.text.as_bytes())
    });
    let version = all.finalize();
    let version = version.iter().take(6).map(|byte| format!("{byte:02x}"));
    format!("/console/assets/{}", version.collect::<String>())
});

/// The base address of this build's assets, which contains a hash of their content.
pub(super) fn place() -> &'static str {
    &PLACE
}

pub(super) fn routes() -> Router<ConsoleState> {
    Router::new().route("/console/assets/{version}/{name}", get(asset))
}

async fn asset(
    State(state): State<ConsoleState>,
    Path((_, name)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let Some(asset) = found.filter(|_| state.parts.admin.is_set()) else {
        return Err(ErrorPage::nothing("There is no such file in the console."));
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
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
