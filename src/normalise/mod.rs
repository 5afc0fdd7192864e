//! A stand-in for the catalogue of codes and messages, until the real one takes its place.

use serde::Serialize;

use crate::domain::{Action, Status};

/// Every error code the relay knows.
#[derive(Debug, Clone, Default)]
pub struct Catalogue;

/// One error code.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// The code.
    pub error_code: String,
    /// The status of its event.
    pub status: Status,
    /// What to do.
    pub action: Action,
    /// What the person is told.
    pub user_message: String,
}

impl Catalogue {
    /// The locale that is used for the one asked for, and every code in it.
    #[must_use]
    pub fn entries(&self, _locale: Option<&str>) -> (String, Vec<CatalogueEntry>) {
        let entry = CatalogueEntry {
            error_code: "invalid-credentials".to_owned(),
            status: Status::Failed,
            action: Action::ResubmitCredentials,
            user_message: "Your bank did not accept these login details.".to_owned(),
        };
        ("en".to_owned(), vec![entry])
    }
}
