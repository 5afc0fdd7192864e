//! The faults of settings, all at once, one line each.

use thiserror::Error;

/// The error of settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", faults.join("\n"))]
pub struct ConfigError {
    faults: Vec<String>,
}

impl ConfigError {
    /// Returns one line for each fault: the setting, its value unless that is secret, and what is allowed.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    pub(super) fn new(faults: Vec<String>) -> Self {
        Self { faults }
    }

    /// Returns an error if there is a fault.
    pub(super) fn unless_empty(faults: Vec<String>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self::new(faults))
        }
    }
}
