//! The sources of settings: the file, the environment, which overrides the file, and files that hold one value.

use std::{fs, path::Path};

use toml::{Table, Value};

use crate::config::{
    service_links::is_service_link,
    setting::{PREFIX, SETTINGS, Setting, SettingForm},
};

/// The maximum size of a file that holds one value, in bytes.
const VALUE_FILE_LIMIT: u64 = 1024 * 1024;

/// A settings file that was read.
#[derive(Debug)]
pub(super) struct SettingsFile {
    /// The file's name in faults.
    pub(super) name: String,
    /// The file's content.
    pub(super) text: String,
}

/// The settings of one source, by their names as users write them there.
#[derive(Debug)]
pub(super) struct SettingsLayer {
    /// The name of the source in faults.
    source: String,
    is_environment: bool,
    values: Table,
}

/// A value as it was given, and its name in faults.
#[derive(Debug, Clone)]
pub(super) struct GivenValue {
    /// The setting's name as the user wrote it, and its source.
    pub(super) label: String,
    /// The value as text.
    pub(super) text: String,
    /// Whether the value was written as a list.
    pub(super) is_list: bool,
}

impl SettingsLayer {
    /// Parses the text of a settings file into a layer.
    pub(super) fn file(file: &SettingsFile) -> Result<Self, String> {
        let name = &file.name;
        let values = toml::from_str(&file.text)
            .map_err(|error| format!("{name}: {}", first_and_last_line(&error.to_string())))?;
        Ok(Self {
            source: name.clone(),
            is_environment: false,
            values,
        })
    }

    /// Creates a layer from the variables that have the prefix. Leaves out the variables that Kubernetes sets for a
    /// Service.
    /// Names are case-sensitive.
    pub(super) fn environment(variables: Vec<(String, String)>) -> Self {
        let values = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with(PREFIX) && !is_service_link(name, value))
            .map(|(name, value)| (name, Value::String(value)));
        Self {
            source: "environment".to_owned(),
            is_environment: true,
            values: values.collect(),
        }
    }

    /// Reports the names that are not settings.
    pub(super) fn unknown_names(&self) -> impl Iterator<Item = String> {
        let keys = SETTINGS.iter().filter_map(Setting::key);
        let known: Vec<_> = keys
            .flat_map(|key| [self.written(&key), self.written(&of_file(&key))])
            .collect();
        let unknown = self.values.keys().filter(move |name| !known.contains(name));
        unknown.map(|name| {
            let (name_shown, source) = (name.escape_debug(), &self.source);
            let fault = format!("{name_shown} ({source}): there is no such setting");
            match closest(name) {
                Some(near) => format!("{fault}; did you mean {}?", self.written(&near)),
                None => fault,
            }
        })
    }

    /// Returns the value of a setting, given directly or as the path of a file that holds it.
    ///
    /// Templates of containers leave empty values behind. An empty optional setting counts as not set. If both a value
    /// and its file are given, the empty one of them counts as not set.
    pub(super) fn given(&self, setting: &Setting) -> Option<Result<GivenValue, String>> {
        let key = setting.key()?;
        let (name, file_name) = (self.written(&key), self.written(&of_file(&key)));
        let (value, path) = (self.values.get(&name), self.values.get(&file_name));
        let is_set = |value: &Value, other: Option<&Value>| {
            !is_empty(value)
                || !(setting.default.is_none() || other.is_some_and(|other| !is_empty(other)))
        };
        match (
            value.filter(|value| is_set(value, path)),
            path.filter(|path| is_set(path, value)),
        ) {
            (None, None) => None,
            (Some(value), None) => Some(self.value(&name, value)),
            (None, Some(path)) => Some(self.value_in_file(setting, &file_name, path)),
            (Some(_), Some(_)) => Some(Err(format!(
                "{name} ({}): contradicts {file_name}, which is set too; set one of them",
                self.source
            ))),
        }
    }

    fn value(&self, name: &str, value: &Value) -> Result<GivenValue, String> {
        let label = format!("{name} ({})", self.source);
        match as_text(value) {
            Some(text) if self.is_environment && text.contains(char::REPLACEMENT_CHARACTER) => {
                Err(format!("{label}: the value is not UTF-8 text"))
            }
            Some(text) => Ok(GivenValue {
                label,
                text,
                is_list: value.is_array(),
            }),
            None => Err(format!(
                "{label}: a text, a whole number, true, false or a list of these is allowed"
            )),
        }
    }

    fn value_in_file(
        &self,
        setting: &Setting,
        name: &str,
        path: &Value,
    ) -> Result<GivenValue, String> {
        let GivenValue { label, text, .. } = self.value(name, path)?;
        let path = Path::new(&text);
        let read = read_value_file(path).map_err(|reason| {
            // a user may have given the secret itself instead of its file, so the text is not shown
            let name = if setting.form.is_secret() {
                "the file that it names (not shown)".to_owned()
            } else {
                format!("`{}`", text.escape_debug())
            };
            format!("{label}: cannot read {name}: {reason}")
        })?;
        let label = if setting.form == SettingForm::SecretLines {
            format!("{label}: {}", path.display())
        } else {
            label
        };
        Ok(GivenValue {
            label,
            text: read,
            is_list: false,
        })
    }

    /// Returns the name that users write for a key in this layer.
    fn written(&self, key: &str) -> String {
        if self.is_environment {
            format!("{PREFIX}{}", key.to_ascii_uppercase())
        } else {
            key.to_owned()
        }
    }
}

/// Returns the key of the file that holds the value of `key`.
fn of_file(key: &str) -> String {
    format!("{key}_file")
}

/// Returns the place and the reason of a parser's message. Leaves out the line of the file between them, which may
/// hold a secret.
fn first_and_last_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first}: {last}"),
        None => first.to_owned(),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| as_text(item).filter(|_| !item.is_array()));
            Some(items.collect::<Option<Vec<_>>>()?.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

fn read_value_file(path: &Path) -> Result<String, String> {
    let about = fs::metadata(path).map_err(|error| error.to_string())?;
    if about.len() > VALUE_FILE_LIMIT {
        return Err("it is larger than 1 MiB".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let cut = text.strip_suffix('\n').unwrap_or(&text);
    Ok(cut.strip_suffix('\r').unwrap_or(cut).to_owned())
}

/// Returns the key of the setting whose name is most similar to `name`, if any is similar enough.
fn closest(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let key = name.trim_start_matches("relay_");
    SETTINGS
        .iter()
        .filter_map(Setting::key)
        .flat_map(|known| [of_file(&known), known])
        .map(|known| (strsim::damerau_levenshtein(key, &known), known))
        .filter(|(distance, known)| *distance <= 3.min(known.len() / 2))
        .min()
        .map(|(_, known)| known)
}
