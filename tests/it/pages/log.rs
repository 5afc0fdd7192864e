//! Compares the lines that the program can log, read from its source, with docs/LOGS.md.

use std::{collections::BTreeSet, fs, path::Path};

const LOGS: &str = include_str!("../../../docs/LOGS.md");

/// The macros that log a line, by level, and the macros that open a span.
const MACROS: [&str; 7] = [
    "error!(",
    "warn!(",
    "info!(",
    "debug!(",
    "trace!(",
    "info_span!(",
    "debug_span!(",
];

/// The message and the fields of one macro.
#[derive(Debug)]
pub(super) struct Line {
    level: &'static str,
    pub(super) message: String,
    fields: BTreeSet<String>,
}

/// Returns all source below a folder, without its tests.
pub(super) fn source(folder: &str) -> String {
    let mut all = String::new();
    collect(&super::root().join(folder), &mut all);
    all
}

fn collect(path: &Path, all: &mut String) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), all);
        }
    } else if path.extension().is_some_and(|kind| kind == "rs") {
        let text = fs::read_to_string(path).unwrap();
        all.push_str(text.split("#[cfg(test)]\nmod").next().unwrap_or_default());
    }
}

/// Returns every line that the relay can log. The sandbox and the demo are not included, because they are only for
/// trying out.
pub(super) fn messages() -> Vec<Line> {
    let folders = [
        "crates/basiq-client/src",
        "crates/relay-runtime/src",
        "crates/relay-store/src",
        "src/alerts",
        "src/api",
        "src/app",
        "src/callback_test",
        "src/console",
        "src/delivery",
        "src/discovery",
        "src/follow",
        "src/telemetry",
        "src/tracker",
        "src/web",
        "src/cli/serve.rs",
    ];
    let text: String = folders.iter().map(|folder| source(folder)).collect();
    let mut lines = Vec::new();
    for level in MACROS {
        for (at, _) in text.match_indices(level) {
            let is_whole = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_whole {
                lines.push(read(level, &text[at + level.len()..]));
            }
        }
    }
    lines
}

/// Parses the arguments of a macro, up to its closing bracket.
fn read(level: &'static str, text: &str) -> Line {
    let (mut depth, mut quoted, mut start) = (1, false, 0);
    let mut arguments = Vec::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            '(' | '{' | '[' if !quoted => depth += 1,
            ')' | '}' | ']' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',' && !quoted) {
            arguments.push(text[start..at].trim());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
        before = c;
    }
    let mut line = Line {
        level,
        message: String::new(),
        fields: BTreeSet::new(),
    };
    for argument in arguments
        .into_iter()
        .filter(|argument| !argument.is_empty())
    {
        if let Some(message) = argument.strip_prefix('"') {
            message.trim_end_matches('"').clone_into(&mut line.message);
        } else {
            let name = argument.split(" = ").next().unwrap_or_default();
            line.fields.insert(name.trim_matches(['%', '?']).to_owned());
        }
    }
    line
}

/// Returns the code words in the first column of the page's tables below this heading.
fn told(heading: &str) -> BTreeSet<&'static str> {
    let section = LOGS.split("\n## ").find(|part| part.starts_with(heading));
    let rows = section
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        row.split(" | ")
            .next()
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
    })
    .collect()
}

#[test]
fn the_page_of_logs_has_every_error_and_warning_and_nothing_that_is_not_said() {
    let lines = messages();
    let (errors, warnings, others) = (
        told("Errors"),
        [
            "Warnings: callbacks",
            "Warnings: alerts",
            "Warnings: Basiq",
            "Warnings: the store",
        ]
        .into_iter()
        .flat_map(told)
        .collect::<BTreeSet<_>>(),
        told("What should be there"),
    );
    let of = |level: &str| -> BTreeSet<_> {
        let of_level = lines.iter().filter(|line| line.level == level);
        of_level.map(|line| line.message.as_str()).collect()
    };
    assert_eq!(errors, of("error!("));
    assert_eq!(warnings, of("warn!("));
    let infos = of("info!(");
    assert!(others.is_subset(&infos), "{:?}", others.difference(&infos));
}

#[test]
fn the_page_of_logs_has_every_field_and_none_that_is_not_written() {
    let written: BTreeSet<_> = messages()
        .iter()
        .flat_map(|line| line.fields.clone())
        // Arguments such as `parent: None` are not fields.
        .filter(|name| !name.starts_with(['"', '&']) && !name.contains(':'))
        .collect();
    let written: BTreeSet<_> = written.iter().map(String::as_str).collect();
    assert_eq!(told("Fields"), written);
}

#[test]
fn each_filter_of_the_page_names_a_module_that_exists() {
    let (_, filters) = LOGS.split_once("\n## Filters\n").unwrap();
    let (filters, _) = filters.split_once("\n## ").unwrap_or((filters, ""));
    let rows = filters.lines().filter_map(|line| line.strip_prefix("| `"));
    let directives = rows.flat_map(|row| row.split('`').next().unwrap().split(','));
    let modules: Vec<&str> = directives
        .filter_map(|directive| Some(directive.split_once('=')?.0))
        .collect();
    assert!(modules.len() >= 5, "{modules:?}");
    for module in modules {
        let (package, inside) = module.split_once("::").unwrap_or((module, ""));
        let folder = match package {
            "basiq_relay" => super::root().join("src").join(inside),
            library => super::root()
                .join("crates")
                .join(library.replace('_', "-"))
                .join("src")
                .join(inside),
        };
        assert!(folder.is_dir(), "{module}: {}", folder.display());
    }
}
