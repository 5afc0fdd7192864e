//! The sources of settings: the file, the environment, which overrides the file, and files that hold one value.

use std::{collections::BTreeMap, fs, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use crate::config::{
    service_links::is_service_link,
    setting::{PREFIX, SETTINGS, SettingDoc, doc_of},
};

/// The name of the environment in faults.
pub(super) const ENVIRONMENT: &str = "environment";

/// The maximum size of a file that holds one value, in bytes.
const VALUE_FILE_LIMIT: u64 = 1024 * 1024;

/// The settings of one source, by their key in lower case.
pub(super) struct SettingsLayer {
    name: String,
    dict: Dict,
}

impl SettingsLayer {
    /// Removes empty values that count as not set, because templates of containers leave them behind. These are empty
    /// optional settings, an empty value if its file is given, and an empty file if its value is given.
    fn forget_empty(&mut self) {
        let empty: Vec<String> = self
            .dict
            .keys()
            .filter(|key| self.is_empty(key) && self.may_be_empty(key))
            .cloned()
            .collect();
        for key in empty {
            self.dict.remove(&key);
        }
    }

    fn is_empty(&self, key: &str) -> bool {
        matches!(self.dict.get(key), Some(Value::String(_, text)) if text.trim().is_empty())
    }

    fn may_be_empty(&self, key: &str) -> bool {
        let (setting, other) = match key.strip_suffix("_file") {
            Some(setting) if doc_of(key).is_none() => (setting, setting.to_owned()),
            Some(_) | None => (key, format!("{key}_file")),
        };
        let is_optional = doc_of(setting).is_some_and(|doc| doc.default.is_none());
        is_optional || (self.dict.contains_key(&other) && !self.is_empty(&other))
    }
}

impl Provider for SettingsLayer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
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

/// All settings that were given, by key.
pub(super) type GivenValues = BTreeMap<String, GivenValue>;

/// Parses the text of a settings file into a layer.
pub(super) fn file_layer(name: &str, text: &str) -> Result<SettingsLayer, String> {
    let data = Toml::string(text)
        .data()
        .map_err(|error| format!("{name}: {}", first_and_last_line(&error.to_string())))?;
    Ok(SettingsLayer {
        name: name.to_owned(),
        dict: data.into_values().next().unwrap_or_default(),
    })
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

/// Creates a layer from the variables that have the prefix, without those that Kubernetes sets for a Service. Names
/// are case-sensitive.
pub(super) fn environment_layer(
    environment: impl IntoIterator<Item = (String, String)>,
    faults: &mut Vec<String>,
) -> SettingsLayer {
    let mut dict = Dict::new();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if is_service_link(&name, &value) {
            continue;
        }
        let key = rest.to_ascii_lowercase();
        if rest != rest.to_ascii_uppercase() {
            faults.push(unknown(ENVIRONMENT, &name, &key));
        } else if value.contains(char::REPLACEMENT_CHARACTER) {
            faults.push(format!(
                "{name} ({ENVIRONMENT}): the value is not UTF-8 text"
            ));
        } else {
            dict.insert(key, Value::from(value));
        }
    }
    SettingsLayer {
        name: ENVIRONMENT.to_owned(),
        dict,
    }
}

/// Merges the layers, where later ones override earlier ones. Reports names that are not settings.
pub(super) fn merge(layers: Vec<SettingsLayer>, faults: &mut Vec<String>) -> GivenValues {
    let mut figment = Figment::new();
    for mut layer in layers {
        layer.forget_empty();
        for key in layer.dict.keys().filter(|key| !is_known(key)) {
            faults.push(unknown(&layer.name, &written(&layer.name, key), key));
        }
        figment = figment.merge(layer);
    }
    let mut all = GivenValues::new();
    for key in SETTINGS.iter().filter_map(SettingDoc::key) {
        match given(&figment, &key) {
            Ok(Some(given)) => {
                all.insert(key, given);
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    all
}

fn is_known(key: &str) -> bool {
    let is_setting = |key: &str| doc_of(key).is_some();
    is_setting(key) || key.strip_suffix("_file").is_some_and(is_setting)
}

/// Returns the value of a setting, given directly or as the path of a file that holds it.
fn given(figment: &Figment, key: &str) -> Result<Option<GivenValue>, String> {
    let plain = find(figment, key);
    let by_file = find(figment, &format!("{key}_file"));
    match (plain, by_file) {
        (None, None) => Ok(None),
        (Some((layer, value)), None) => from_value(&layer, key, &value).map(Some),
        (Some((layer, _)), Some((other, _))) if layer == other => Err(format!(
            "{} ({layer}): contradicts {}, which is set too; set one of them",
            written(&layer, key),
            written(&layer, &format!("{key}_file")),
        )),
        (Some((layer, value)), Some(_)) if layer == ENVIRONMENT => {
            from_value(&layer, key, &value).map(Some)
        }
        (_, Some((layer, path))) => from_value_file(&layer, key, &path).map(Some),
    }
}

fn find(figment: &Figment, key: &str) -> Option<(String, Value)> {
    let value = figment.find_value(key).ok()?;
    let layer = figment.get_metadata(value.tag())?.name.to_string();
    Some((layer, value))
}

fn from_value(layer: &str, key: &str, value: &Value) -> Result<GivenValue, String> {
    let label = format!("{} ({layer})", written(layer, key));
    match as_text(value) {
        Some(text) => Ok(GivenValue {
            label,
            text,
            is_list: matches!(value, Value::Array(..)),
        }),
        None => Err(format!(
            "{label}: a text, a whole number, true, false or a list of these is allowed"
        )),
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, character) => Some(character.to_string()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|whole| whole.to_string())
            .or_else(|| number.to_u128().map(|whole| whole.to_string())),
        Value::Array(_, items) => items
            .iter()
            .map(|item| match item {
                Value::Array(..) => None,
                _ => as_text(item),
            })
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        Value::Dict(..) | Value::Empty(..) => None,
    }
}

fn from_value_file(layer: &str, key: &str, path: &Value) -> Result<GivenValue, String> {
    let may_be_secret = doc_of(key).is_some_and(SettingDoc::is_secret);
    let path = from_value(layer, &format!("{key}_file"), path)?;
    let text = read_value_file(Path::new(&path.text)).map_err(|reason| {
        // a user may have given the secret itself instead of its file, so the text is not shown
        let name = if may_be_secret {
            "the file that it names (not shown)".to_owned()
        } else {
            format!("`{}`", path.text.escape_debug())
        };
        format!("{}: cannot read {name}: {reason}", path.label)
    })?;
    Ok(GivenValue {
        label: path.label,
        text,
        is_list: false,
    })
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

/// Returns the key as users write it in that layer.
pub(super) fn written(layer: &str, key: &str) -> String {
    if layer == ENVIRONMENT {
        format!("{PREFIX}{}", key.to_ascii_uppercase())
    } else {
        key.to_owned()
    }
}

fn unknown(layer: &str, as_written: &str, key: &str) -> String {
    let fault = format!(
        "{} ({layer}): there is no such setting",
        as_written.escape_debug()
    );
    match closest(key) {
        Some(near) => format!("{fault}; did you mean {}?", written(layer, &near)),
        None => fault,
    }
}

/// Returns the setting whose name is most similar to `key`, if any is similar enough.
fn closest(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    let tries = [key.as_str(), key.strip_prefix("relay_").unwrap_or(&key)];
    SETTINGS
        .iter()
        .filter_map(SettingDoc::key)
        .flat_map(|known| [format!("{known}_file"), known])
        .filter_map(|known| {
            tries
                .iter()
                .map(|key| strsim::damerau_levenshtein(key, &known))
                .min()
                .map(|distance| (distance, known))
        })
        .filter(|(distance, known)| *distance <= 3.min(known.len() / 2))
        .min()
        .map(|(_, known)| known)
}
