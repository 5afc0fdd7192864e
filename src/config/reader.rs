//! Reads the settings of the table from their sources, and collects all faults.

use crate::config::{
    setting::{Setting, SettingForm},
    sources::{GivenValue, SettingsLayer},
    value::Allowed,
};

/// Reads one setting after another. Without sources, every setting gets its default.
#[derive(Debug, Default)]
pub(super) struct SettingsReader {
    /// The sources. Each overrides those before it.
    pub(super) layers: Vec<SettingsLayer>,
    /// Whether OpenTelemetry's own variables turn trace export on.
    pub(super) export_traces: bool,
    /// Whether this is the development mode.
    pub(super) development: bool,
    /// The settings read so far.
    pub(super) settings: Vec<Setting>,
    pub(super) faults: Vec<String>,
}

impl SettingsReader {
    /// Adds a layer that overrides those before it. Reports its names that are not settings.
    pub(super) fn add(&mut self, layer: SettingsLayer) {
        self.faults.extend(layer.unknown_names());
        self.layers.push(layer);
    }

    /// Reads a setting that has a single value.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        default: Option<&'static str>,
        parse: impl Fn(&str) -> Result<T, Allowed>,
        meaning: &'static str,
    ) -> T {
        self.value(SettingForm::Single, name, default, parse, meaning)
    }

    /// Reads a setting that may also be written as a list.
    pub(super) fn read_list<T>(
        &mut self,
        name: &'static str,
        default: Option<&'static str>,
        parse: impl Fn(&str) -> Result<T, Allowed>,
        meaning: &'static str,
    ) -> T {
        self.value(SettingForm::List, name, default, parse, meaning)
    }

    /// Reads a setting whose value may hold a secret.
    pub(super) fn read_secret<T>(
        &mut self,
        name: &'static str,
        default: Option<&'static str>,
        parse: impl Fn(&str) -> Result<T, Allowed>,
        meaning: &'static str,
    ) -> T {
        self.value(SettingForm::Secret, name, default, parse, meaning)
    }

    /// Reads a setting of several lines that hold secrets.
    pub(super) fn read_secret_lines<T>(
        &mut self,
        name: &'static str,
        default: Option<&'static str>,
        parse: impl Fn(&str) -> Result<T, Allowed>,
        meaning: &'static str,
    ) -> T {
        self.value(SettingForm::SecretLines, name, default, parse, meaning)
    }

    /// Reads whether OpenTelemetry's own variables turn trace export on. No layer holds them.
    pub(super) fn traces(&mut self, name: &'static str, meaning: &'static str) -> bool {
        let (default, form) = (None, SettingForm::Single);
        self.settings.push(Setting {
            name,
            default,
            meaning,
            form,
        });
        self.export_traces
    }

    /// Returns the given value, or the default if none is given or the given one is faulty.
    #[expect(
        clippy::expect_used,
        reason = "constant texts, parsed in every test run"
    )]
    fn value<T>(
        &mut self,
        form: SettingForm,
        name: &'static str,
        default: Option<&'static str>,
        parse: impl Fn(&str) -> Result<T, Allowed>,
        meaning: &'static str,
    ) -> T {
        let setting = Setting {
            name,
            default,
            meaning,
            form,
        };
        self.settings.push(setting);
        let given = self.given(&setting).and_then(|given| match given {
            Some(given) => parsed(&setting, &given, &parse).map(Some),
            None => Ok(None),
        });
        let given = given.unwrap_or_else(|fault| {
            self.faults.push(fault);
            None
        });
        given
            .unwrap_or_else(|| parse(setting.default.unwrap_or_default()).expect("a valid default"))
    }

    fn given(&self, setting: &Setting) -> Result<Option<GivenValue>, String> {
        let given = self
            .layers
            .iter()
            .rev()
            .find_map(|layer| layer.given(setting));
        given.transpose()
    }

    /// Reports two settings that contradict each other.
    pub(super) fn contradiction(&mut self, name: &str, other: &str, rule: &str) {
        let fault = format!("{} {rule} {}", self.described(name), self.described(other));
        self.faults.push(fault);
    }

    /// Reports that a line of a setting contradicts another setting.
    pub(super) fn wrong_line(&mut self, name: &str, line: usize, rule: &str) {
        let setting = self.settings.iter().find(|setting| setting.name == name);
        let given = setting.and_then(|setting| self.given(setting).ok().flatten());
        let label = given.map_or_else(|| name.to_owned(), |given| given.label);
        self.faults.push(format!("{label}: line {line}: {rule}"));
    }

    fn described(&self, name: &str) -> String {
        let setting = self.settings.iter().find(|setting| setting.name == name);
        match setting.map(|setting| (setting.default, self.given(setting))) {
            Some((_, Ok(Some(given)))) => format!("{} `{}`", given.label, given.text.trim()),
            Some((Some(default), _)) => format!("{name} (default) `{default}`"),
            _ => format!("{name} (default) `none`"),
        }
    }
}

/// Parses the text of a given value. The error names the setting, its value and what is allowed.
fn parsed<T>(
    setting: &Setting,
    given: &GivenValue,
    parse: impl Fn(&str) -> Result<T, Allowed>,
) -> Result<T, String> {
    let GivenValue {
        label,
        text,
        is_list,
    } = given;
    if *is_list && setting.form != SettingForm::List {
        return Err(format!("{label}: a single value is allowed, not a list"));
    }
    if setting.form == SettingForm::SecretLines {
        // not trimmed, so that each line keeps its number
        return parse(text).map_err(|fault| format!("{label}: {fault}"));
    }
    parse(text.trim())
        .map_err(|allowed| format!("{label}: {} is not valid; {allowed}", shown(setting, text)))
}

/// Returns a value as an error may show it: one short line, without anything that may be a secret.
fn shown(setting: &Setting, text: &str) -> String {
    if setting.form.is_secret() {
        return "the value (it may hold a secret, not shown)".to_owned();
    }
    if text.is_empty() {
        return "an empty value".to_owned();
    }
    // this may be an address with a user or with parameters
    if text.contains(['@', '?']) {
        return "the value (not shown, for it may hold a password)".to_owned();
    }
    let short: String = text.chars().take(100).collect();
    let ellipsis = if short.len() < text.len() { "…" } else { "" };
    format!("`{}{ellipsis}`", short.escape_debug())
}
