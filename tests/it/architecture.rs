//! Checks the layers: a crate or a module imports only those above it, and only those listed here. Checks the files
//! and the names of all crates.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates of the workspace from bottom to top, with the crates that each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    // Connections to callbacks and to Basiq use the same code, and neither side imports the other.
    ("happy-eyeballs", &[]),
    ("relay-domain", &[]),
    ("relay-runtime", &["relay-domain"]),
    (
        "basiq-client",
        &["happy-eyeballs", "relay-domain", "relay-runtime"],
    ),
    ("relay-store", &["relay-domain", "relay-runtime"]),
    ("basiq-sandbox", &["relay-domain"]),
];

/// The modules of the relay from bottom to top, with the modules and crates that each may import. Every module may
/// import itself, `relay_domain` and `relay_runtime`.
const LAYERS: &[(&str, &[&str])] = &[
    ("config", &["basiq_client"]),
    ("telemetry", &["config"]),
    ("follow", &["relay_store"]),
    (
        "tracker",
        &[
            "basiq_client",
            "config",
            "follow",
            "relay_store",
            "telemetry",
        ],
    ),
    ("discovery", &["basiq_client", "config", "relay_store"]),
    (
        "delivery",
        &["config", "happy_eyeballs", "relay_store", "telemetry"],
    ),
    ("alerts", &["config", "delivery", "relay_store"]),
    ("callback_test", &["config", "delivery", "relay_store"]),
    ("web", &["config", "relay_store", "telemetry"]),
    (
        "api",
        &[
            "basiq_client",
            "callback_test",
            "config",
            "follow",
            "relay_store",
            "web",
        ],
    ),
    (
        "console",
        &["callback_test", "config", "relay_store", "web"],
    ),
    (
        "app",
        &[
            "alerts",
            "api",
            "basiq_client",
            "callback_test",
            "config",
            "console",
            "delivery",
            "discovery",
            "follow",
            "relay_store",
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
            "basiq_sandbox",
            "config",
            "delivery",
            "happy_eyeballs",
            "relay_store",
            "telemetry",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// The crates that every module may import.
const BASE: [&str; 2] = ["relay_domain", "relay_runtime"];

#[test]
fn the_tables_are_bottom_up() {
    let idents = CRATES.iter().map(|(name, _)| name.replace('-', "_"));
    let mut above: BTreeSet<_> = idents.collect();
    for (module, imports) in LAYERS {
        for import in *imports {
            assert!(
                above.contains(*import),
                "`{module}` may not import `{import}`, which is not above it"
            );
        }
        above.insert((*module).to_owned());
    }
    let mut above = BTreeSet::new();
    for (name, dependencies) in CRATES {
        let unknown = dependencies.iter().find(|name| !above.contains(*name));
        assert_eq!(unknown, None, "`{name}`");
        above.insert(name);
    }
}

#[test]
fn every_crate_depends_only_on_what_the_table_allows() {
    let allowed: BTreeMap<_, _> = CRATES.iter().copied().collect();
    let folders = fs::read_dir(root().join("crates")).unwrap();
    let found: BTreeSet<_> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        found,
        allowed.keys().map(|name| (*name).to_owned()).collect()
    );
    for (name, allowed) in allowed {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        let used = manifest
            .lines()
            .filter_map(|line| line.split_once(['.', ' ', '=']))
            .map(|(used, _)| used)
            .filter(|used| found.contains(*used));
        let used: Vec<_> = used.collect();
        assert_eq!(used, allowed, "`{name}`");
        assert!(manifest.contains("[lints]\nworkspace = true"), "`{name}`");
    }
}

#[test]
fn every_module_imports_only_what_the_table_allows() {
    let allowed: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for file in rust_files(&root().join("src")) {
        let module = module_of(&file);
        let Some(allowed) = allowed.get(module.as_str()) else {
            faults.push(format!(
                "{}: module `{module}` is not in the table",
                file.display()
            ));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for import in imports(&text).into_iter().chain(crates_in(&text)) {
            let import = import.as_str();
            if import != module && !allowed.contains(&import) && !BASE.contains(&import) {
                faults.push(format!(
                    "{}: `{module}` may not import `{import}`",
                    file.display()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What stands in one part of a crate and may not be imported by another part.
const APART: [(&str, &[&str]); 3] = [
    ("crates/relay-store/src/sqlite", &["postgres", "transfer"]),
    ("crates/relay-store/src/postgres", &["sqlite", "transfer"]),
    (
        "crates/basiq-client/src/normalise",
        &["budget", "call_limiter", "client", "throttle", "token"],
    ),
];

#[test]
fn parts_of_a_crate_that_are_apart_do_not_import_each_other() {
    for (folder, others) in APART {
        for file in rust_files(&root().join(folder)) {
            let found = imports(&fs::read_to_string(&file).unwrap());
            let seen = others.iter().find(|other| found.contains(**other));
            assert_eq!(seen, None, "{}", file.display());
        }
    }
}

#[test]
fn the_submodules_of_the_api_import_each_other_in_no_circle() {
    let folder = root().join("src/api");
    let mut imports = BTreeMap::<_, BTreeSet<_>>::new();
    for file in rust_files(&folder) {
        let found = imports_from("api", &fs::read_to_string(&file).unwrap());
        let submodule = first_name(&file, &folder);
        imports.entry(submodule).or_default().extend(found);
    }
    // `mod.rs` has all submodules, and what they import from it is in no submodule
    imports.remove("mod");
    let submodules: BTreeSet<_> = imports.keys().cloned().collect();
    assert!(submodules.contains("watch") && imports["stream"].contains("watch"));
    for (submodule, found) in &mut imports {
        found.retain(|import| import != submodule && submodules.contains(import));
    }
    // a submodule that imports no other one, or that no other one imports, is in no circle
    let is_free = |submodule: &&String, imports: &BTreeMap<String, BTreeSet<String>>| {
        let is_imported = imports.values().any(|found| found.contains(*submodule));
        !is_imported || imports[*submodule].is_empty()
    };
    while let Some(free) = imports.keys().find(|name| is_free(name, &imports)) {
        let free = free.clone();
        imports.remove(&free);
        for found in imports.values_mut() {
            found.remove(&free);
        }
    }
    assert!(imports.is_empty(), "circles of imports: {imports:#?}");
}

#[test]
fn every_file_says_its_job_and_stays_readable() {
    let mut faults = Vec::new();
    for file in sources() {
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
    let text = "use relay_store::Y;\n// basiq_client::x\nfn f() { happy_eyeballs::g(); }";
    assert_eq!(crates_in(text), ["happy_eyeballs", "relay_store"]);
}

#[test]
fn the_check_for_circles_sees_every_kind_of_import() {
    let text = "use super::watch;\nuse crate::{\n    api::{a, b::{x, y}, c::d},\n    domain::e,\n};\n\
                use crate::api::{f, g};\nfn h() { crate::api::i::j(); super::super::k() }";
    let found = imports_from("api", text);
    assert_eq!(
        found,
        ["a", "b", "c", "f", "g", "i", "k", "watch"]
            .map(String::from)
            .into()
    );
}

#[test]
fn no_two_types_that_leave_their_modules_share_a_name() {
    let mut places = BTreeMap::<_, Vec<_>>::new();
    for file in sources() {
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the source files of all crates.
fn sources() -> Vec<PathBuf> {
    let crates = CRATES.iter().map(|(name, _)| format!("crates/{name}/src"));
    ["src".to_owned()]
        .into_iter()
        .chain(crates)
        .flat_map(|folder| rust_files(&root().join(folder)))
        .collect()
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
    first_name(file, &root().join("src"))
}

/// Returns the module directly in a folder that a file belongs to.
fn first_name(file: &Path, folder: &Path) -> String {
    let mut relative = file.strip_prefix(folder).unwrap().components();
    let first = relative.next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the first segment of every `crate::` path, including grouped imports.
fn imports(text: &str) -> BTreeSet<String> {
    let code = code_of(text);
    crate_paths(&code).filter_map(first_word).collect()
}

/// Returns the segment after `module` of every path into that module of the crate. `super` counts as that module.
fn imports_from(module: &str, text: &str) -> BTreeSet<String> {
    let code = code_of(text).replace("super::", &format!("crate::{module}::"));
    let paths = crate_paths(&code).filter_map(|path| path.strip_prefix(module)?.strip_prefix("::"));
    paths.flat_map(items).filter_map(first_word).collect()
}

/// Returns the crates of this workspace whose paths stand in a file.
fn crates_in(text: &str) -> Vec<String> {
    let code = code_of(text);
    let idents = CRATES.iter().map(|(name, _)| name.replace('-', "_"));
    idents
        .filter(|ident| code.contains(&format!("{ident}::")))
        .collect()
}

/// Returns a file without its comments.
fn code_of(text: &str) -> String {
    let lines = text.lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n").replace("$crate::", "")
}

/// Returns what follows `crate::`, for every path and every item of a group.
fn crate_paths(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).flat_map(items)
}

/// Returns the items of a group such as `{a::b, c::{d, e}} …`. Text that begins otherwise is one item.
fn items(text: &str) -> Vec<&str> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![text];
    };
    let (mut depth, mut items, mut start) = (0, Vec::new(), 0);
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(group[start..index].trim_start());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(group[start..index].trim_start());
                start = index + 1;
            }
            _ => {}
        }
    }
    items
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}
