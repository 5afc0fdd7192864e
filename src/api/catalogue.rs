//! `GET /catalogue`: every error code with its action and message.

use axum::{Json, extract::State};
use basiq_client::normalise::CatalogueEntry;
use relay_domain::Locale;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{ApiState, examples},
    web::{Problem, QueryParams},
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(read_catalogue))
}

/// All error codes that the relay knows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Catalogue)]
pub(crate) struct CatalogueView {
    /// The locale of the texts, which is the nearest one to the requested locale.
    #[schema(example = "en")]
    pub locale: String,
    /// The error codes.
    pub items: Vec<CatalogueEntry>,
}

/// Read the catalogue
///
/// Returns every error code with its status, action and message, so that a frontend can prepare its screens. The
/// relay has texts in `en`, `zh-Hans`, `vi` and `ar`, and in the languages that the operator added. For any other tag
/// it uses the nearest of these (RFC 4647, lookup), and finally `en`. The response says in `locale` which one it used.
#[utoipa::path(
    get,
    path = "/catalogue",
    operation_id = "readCatalogue",
    tag = "catalogue",
    params(("locale" = Option<String>, Query, description = "A BCP 47 tag; `en` by default",
        max_length = 35, pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", example = json!("en-AU"))),
    responses((status = 200, description = "The catalogue", body = CatalogueView,
        example = json!(examples::catalogue()))),
)]
async fn read_catalogue(
    State(state): State<ApiState>,
    mut params: QueryParams,
) -> Result<Json<CatalogueView>, Problem> {
    let allowed = "a BCP 47 language tag such as `en` or `en-AU`";
    let locale = params.take("locale", allowed, Locale::parse);
    params.finish()?;
    let (locale, items) = state
        .parts
        .catalogue
        .entries(locale.as_ref().map(Locale::as_str));
    Ok(Json(CatalogueView { locale, items }))
}
