//! Checks the layers: a module imports only modules above it, and only the modules listed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules from top to bottom, with the modules that each may import. Every module may import itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("http_url", &[]),
    ("config", &["http_url"]),
    ("domain", &["http_url"]),
    // Connections to callbacks and to Basiq use the same code, and neither side imports the other.
    ("happy_eyeballs", &[]),
    ("runtime", &["domain"]),
    ("telemetry", &["config", "domain"]),
    ("signing", &["domain"]),
    (
        "basiq",
        &["clock", "config", "domain", "happy_eyeballs", "runtime"],
    ),
    ("normalise", &["basiq", "domain"]),
    ("store", &["clock", "config", "domain", "runtime"]),
    (
        "tracker",
        &[
            "basiq",
            "clock",
            "config",
            "domain",
            "normalise",
            "runtime",
            "store",
            "telemetry",
        ],
    ),
    (
        "delivery",
        &[
            "clock",
            "config",
            "domain",
            "happy_eyeballs",
            "runtime",
            "signing",
            "store",
            "telemetry",
        ],
    ),
    ("web", &["clock", "config", "domain", "store", "telemetry"]),
    (
        "api",
        &[
            "basiq",
            "clock",
            "config",
            "domain",
            "normalise",
            "runtime",
            "signing",
            "store",
            "web",
        ],
    ),
    ("console", &["clock", "config", "domain", "store", "web"]),
    (
        "sandbox",
        &["basiq", "clock", "config", "domain", "runtime", "signing"],
    ),
    (
        "app",
        &[
            "api",
            "basiq",
            "clock",
            "config",
            "console",
            "delivery",
            "domain",
            "normalise",
            "runtime",
            "store",
            "telemetry",
            "tracker",
            "web",
        ],
    ),
    (
        "cli",
        &[
            "api",
            "app",
            "clock",
            "config",
            "domain",
            "happy_eyeballs",
            "runtime",
            "sandbox",
            "signing",
            "store",
            "telemetry",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

#[test]
fn the_table_of_layers_is_bottom_up() {
    let mut above = BTreeSet::new();
    for (module, imports) in LAYERS {
        for import in *imports {
            assert!(
                above.contains(import),
                "`{module}` may not import `{import}`, which is not above it"
            );
        }
        above.insert(module);
    }
}

#[test]
fn every_module_imports_only_what_the_table_allows() {
    let allowed: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for file in rust_files(&source()) {
        let module = module_of(&file);
        let Some(allowed) = allowed.get(module.as_str()) else {
            faults.push(format!(
                "{}: module `{module}` is not in the table",
                file.display()
            ));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for import in imports(&text) {
            if import != module && !allowed.contains(&import.as_str()) {
                faults.push(format!(
                    "{}: `{module}` may not import `{import}`",
                    file.display()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_says_its_job_and_stays_readable() {
    let mut faults = Vec::new();
    for file in rust_files(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//! ") {
            faults.push(format!("{}: does not begin with its job", file.display()));
        }
        if text.lines().count() > 400 {
            faults.push(format!(
                "{}: has {} lines",
                file.display(),
                text.lines().count()
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_check_sees_every_kind_of_import() {
    let text = "use crate::{\n    api::x,\n    domain::{a, b},\n};\nuse crate::store::Y;\n\
                // crate::comment::Z\nfn f() { crate::tracker::g(); }";
    let found = imports(text);
    assert_eq!(
        found,
        ["api", "domain", "store", "tracker"]
            .map(String::from)
            .into()
    );
}

#[test]
fn no_two_types_that_leave_their_modules_share_a_name() {
    let mut places = BTreeMap::<_, Vec<_>>::new();
    for file in rust_files(&source()) {
        for name in exported_types(&fs::read_to_string(&file).unwrap()) {
            places.entry(name).or_default().push(file.clone());
        }
    }
    assert!(places.len() > 300, "only {} types were seen", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn the_check_of_names_sees_every_kind_of_type() {
    let text = "pub struct A;\n    pub(super) enum B {}\npub(in crate::x) trait C {}\npub(crate) type D<T> = \
                Vec<T>;\nstruct Private;\n// pub struct Comment;\npub fn structure() {}\npub const X: u8 = 1;";
    assert_eq!(exported_types(text), ["A", "B", "C", "D"]);
}

/// Returns the names of the types that a file exports.
fn exported_types(text: &str) -> Vec<String> {
    let named = |line: &str| {
        let mut rest = line.trim_start().strip_prefix("pub")?;
        if rest.starts_with('(') {
            rest = rest.split_once(')')?.1;
        }
        let (kind, rest) = rest.trim_start().split_once(' ')?;
        let is_type = matches!(kind, "struct" | "enum" | "trait" | "type" | "union");
        is_type.then(|| first_word(rest)).flatten()
    };
    text.lines().filter_map(named).collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(source()).unwrap();
    let first = relative
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the first segment of every `crate::` path, including grouped imports.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
        .replace("$crate::", "");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(first_word(rest)),
        }
    }
    found
}

/// Returns the first segment of each path in `a::b, c::{d, e}, …}`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), 0);
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.extend(first_word(&group[start..index]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(first_word(&group[start..index]));
                start = index + 1;
            }
            _ => {}
        }
    }
    heads
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}
