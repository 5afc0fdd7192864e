//! `basiq-relay openapi`: prints the OpenAPI 3.1 document.

use anyhow::Context;

use crate::{
    api,
    cli::{exit::CommandFailure, output},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: basiq-relay openapi > openapi/openapi.json")]
pub(super) struct OpenapiArgs {}

pub(super) fn run(_: &OpenapiArgs) -> Result<(), CommandFailure> {
    let document = api::document()
        .to_pretty_json()
        .context("the document cannot be written")?;
    output::line(document)?;
    Ok(())
}
