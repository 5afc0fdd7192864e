//! What the help, the documentation and messages know of a setting.

use std::sync::LazyLock;

use crate::config::{Settings, reader::SettingsReader};

/// The prefix of the relay's own environment variables.
pub(super) const PREFIX: &str = "RELAY_";

/// Every setting, in the order of the help. Each `RELAY_X` can also be given as `RELAY_X_FILE`, the path of a file
/// that holds the value. No other names are accepted.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut reader = SettingsReader::default();
    Settings::read(&mut reader);
    reader.settings
});

/// A setting as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name of the environment variable.
    pub name: &'static str,
    /// The default as a user would write it, or none if there is no default.
    pub default: Option<&'static str>,
    /// One line for the help.
    pub meaning: &'static str,
    pub(super) form: SettingForm,
}

/// How a value may be written, and whether it may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettingForm {
    /// A single value.
    Single,
    /// A single value or a list of values.
    List,
    /// A single value that may hold a secret, so that it must not be shown. Addresses of databases and proxies are of
    /// this form too.
    Secret,
    /// Lines that hold secrets. An error names the file and the line, and shows neither.
    SecretLines,
}

impl SettingForm {
    /// Whether a value must not be shown.
    pub(super) fn is_secret(self) -> bool {
        match self {
            Self::Single | Self::List => false,
            Self::Secret | Self::SecretLines => true,
        }
    }
}

impl Setting {
    /// Returns the name in a settings file: lower case, without the prefix. Returns none for OpenTelemetry's own
    /// variables.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.name.strip_prefix(PREFIX).map(str::to_ascii_lowercase)
    }
}
