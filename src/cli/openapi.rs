//! `basiq-relay openapi`: prints the OpenAPI 3.1 document.

use anyhow::Context;

use crate::{
    api,
    cli::{exit::Failure, output},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay openapi > openapi/openapi.json")]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Result<(), Failure> {
    let document = api::document()
        .to_pretty_json()
        .context("the document cannot be written")?;
    output::line(document)?;
    Ok(())
}
