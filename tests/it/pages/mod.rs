//! Checks the pages of the documentation against the program: links, settings, alerts, metrics, and messages of the
//! log.

mod log;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use basiq_relay::config::SETTINGS;
use jiff::Timestamp;
use relay_domain::{
    SigningSecret,
    signing::{self, SignatureHeaders},
};

const RUNBOOK: &str = include_str!("../../../docs/RUNBOOK.md");
const TROUBLESHOOTING: &str = include_str!("../../../docs/TROUBLESHOOTING.md");
const ALERTS: &str = include_str!("../../../docker/prometheus/alerts.yml");
const METRICS: &str = include_str!("../../../src/telemetry/metrics/table.rs");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the pages of the root, the pages in docs/, and the READMEs of other folders.
fn pages() -> Vec<(PathBuf, String)> {
    let single = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docker/README.md",
        "examples/frontend/README.md",
        "examples/receivers/README.md",
        "packages/job-progress/README.md",
    ];
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    single
        .map(|page| root().join(page))
        .into_iter()
        .chain(docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Returns the lines of a page outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    })
}

/// Returns the words that begin with `begin` and continue with characters that `may` accepts.
fn words<'a>(text: &'a str, begin: &str, may: impl Fn(char) -> bool + 'a) -> BTreeSet<&'a str> {
    let is_middle = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(begin)
        .filter(|(at, _)| !text[..*at].ends_with(is_middle))
        .map(|(at, _)| {
            let rest = &text[at..];
            &rest[..rest.find(|c| !may(c)).unwrap_or(rest.len())]
        })
        .collect()
}

/// Returns the anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Returns the targets of the page's links.
fn links(page: &str) -> Vec<String> {
    let text = prose(page).collect::<Vec<_>>().join("\n");
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut faults = Vec::new();
    for (path, text) in pages() {
        for link in links(&text) {
            if link.starts_with("http") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = match file {
                "" => path.clone(),
                _ => path.parent().unwrap().join(file),
            };
            let headings = fs::read_to_string(&target).unwrap_or_default();
            let is_there = target.exists()
                && (fragment.is_empty()
                    || prose(&headings)
                        .any(|line| line.starts_with('#') && anchor(line) == fragment));
            if !is_there {
                faults.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "links that lead nowhere:\n{}",
        faults.join("\n")
    );
}

/// Returns the paths that may be meant by one in ARCHITECTURE.md, where paths are short.
fn meant(path: &str) -> Vec<String> {
    let (head, rest) = path.split_once('/').unwrap_or((path, ""));
    if root().join("crates").join(head).is_dir() {
        return vec![format!("crates/{head}/src/{rest}")];
    }
    vec![path.to_owned(), format!("src/{path}")]
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let is_path = |word: &&str| {
        let name = word.rsplit_once('/').map_or("", |(_, name)| name);
        let is_file = [".rs", ".toml"].iter().any(|end| name.ends_with(end));
        is_file && word.contains('/') && !word.contains(' ')
    };
    let (mut seen, mut missing) = (0, Vec::new());
    for path in page.split('`').skip(1).step_by(2).filter(is_path) {
        seen += 1;
        let each = ["sqlite", "postgres"].map(|store| path.replacen('*', store, 1));
        for path in each {
            let mut all = meant(&path).into_iter();
            if !all.any(|path| root().join(path).is_file()) {
                missing.push(path);
            }
        }
    }
    assert!(seen > 40, "only {seen} paths were seen");
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_setting_that_a_page_names_exists() {
    let known: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    for (path, text) in pages() {
        for named in words(&text, "RELAY_", |c| c.is_ascii_uppercase() || c == '_') {
            let name = named.strip_suffix("_FILE").unwrap_or(named);
            let is_known = known.contains(name) || known.contains(named);
            let is_placeholder = matches!(name, "RELAY_X" | "RELAY_NAME");
            let is_fine = is_known || is_placeholder;
            assert!(is_fine, "{}: {named}", path.display());
        }
    }
}

/// Returns the names of all tables of both stores.
fn tables() -> BTreeSet<String> {
    let folders = ["sqlite", "postgres"]
        .map(|store| root().join(format!("crates/relay-store/src/{store}/migrations")));
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    texts
        .flat_map(|text| {
            let tables = text.split("\nCREATE TABLE ").skip(1);
            let names = tables.map(|rest| rest.split([' ', '(']).next().unwrap().to_owned());
            names.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_page_on_privacy_names_every_table() {
    let page = fs::read_to_string(root().join("docs/PRIVACY.md")).unwrap();
    let tables = tables();
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        assert!(page.contains(&format!("`{table}`")), "{table}");
    }
}

#[test]
fn the_signature_that_the_page_of_the_api_shows_is_right() {
    let page = include_str!("../../../docs/API.md");
    let field = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no line of {name}")).trim()
    };
    let headers = SignatureHeaders {
        id: field("webhook-id:").to_owned(),
        timestamp: field("webhook-timestamp:").to_owned(),
        signature: field("webhook-signature:").to_owned(),
    };
    let at = Timestamp::from_second(headers.timestamp.parse().unwrap()).unwrap();
    let secret = SigningSecret::parse(field("secret:")).unwrap();
    signing::verify(&headers, field("body:"), &secret, at).unwrap();
    assert!(signing::verify(&headers, "{}", &secret, at).is_err());
}

/// Returns the sections of the runbook by their alert.
fn sections() -> Vec<(&'static str, &'static str)> {
    let sections = RUNBOOK.split("\n## ").skip(1);
    sections
        .map(|section| section.split_once('\n').unwrap())
        .collect()
}

#[test]
fn every_alert_has_a_section_of_the_runbook_and_leads_to_it() {
    let alerts: Vec<_> = ALERTS
        .split("- alert: ")
        .skip(1)
        .map(|rule| rule.split_once('\n').unwrap())
        .collect();
    for (alert, rule) in &alerts {
        let address = format!("runbook_url: docs/RUNBOOK.md#{}\n", anchor(alert));
        assert!(
            rule.contains(&address),
            "{alert} does not lead to its section"
        );
    }
    let named: Vec<_> = alerts.iter().map(|(alert, _)| *alert).collect();
    let told: Vec<_> = sections().iter().map(|(alert, _)| *alert).collect();
    assert_eq!(told, named, "sections of the runbook, and alerts");
    for (alert, section) in sections() {
        for part in ["**Means.** ", "**Look at.** ", "**Do.** "] {
            assert_eq!(section.matches(part).count(), 1, "{alert}: {part}");
        }
    }
}

#[test]
fn every_metric_that_a_page_or_an_alert_names_is_one_of_the_relay() {
    let mut texts = pages();
    texts.push((PathBuf::from("alerts.yml"), ALERTS.to_owned()));
    for (path, text) in texts {
        for named in words(&text, "relay_", |c| c.is_ascii_lowercase() || c == '_') {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| named.strip_suffix(suffix))
                .unwrap_or(named);
            let is_known = METRICS.contains(&format!("\"{name}\""));
            // the crates whose names begin like a metric's, in the filters of docs/LOGS.md
            let is_crate = root().join("crates").join(named.replace('_', "-")).is_dir();
            assert!(is_known || is_crate, "{}: {named}", path.display());
        }
    }
}

#[test]
fn every_page_of_the_console_that_the_pages_for_operators_name_exists() {
    let console = log::source("src/console");
    for text in [RUNBOOK, TROUBLESHOOTING] {
        for page in words(text, "/console", |c| c.is_ascii_lowercase() || c == '/') {
            assert!(
                console.contains(&format!(".route(\"{page}\", get(")),
                "{page}"
            );
        }
    }
}

#[test]
fn what_the_pages_for_operators_quote_is_said_by_the_log() {
    let said = log::messages();
    for page in [RUNBOOK, TROUBLESHOOTING] {
        let text = prose(page).collect::<Vec<_>>().join(" ");
        // Skip code spans, because quotes in them belong to the shell.
        let plain: String = text.split('`').step_by(2).collect();
        let quoted: Vec<_> = plain.split('"').skip(1).step_by(2).collect();
        assert!(quoted.len() > 15, "{quoted:?}");
        for quote in quoted {
            assert!(
                said.iter().any(|line| line.message == quote),
                "nothing logs \"{quote}\""
            );
        }
    }
}

#[test]
fn the_image_runs_as_a_user_that_is_a_number_and_owns_its_folder() {
    // Kubernetes cannot verify that a named user is not root, so it refuses the container.
    let image = include_str!("../../../Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER "));
    let user = user.unwrap();
    let (id, group) = user.split_once(':').unwrap();
    assert!(id.parse::<u32>().is_ok_and(|id| id > 0), "{user}");
    assert!(group.parse::<u32>().is_ok_and(|id| id > 0), "{user}");
    assert!(
        image.contains(&format!("--chown={user} /data /data")),
        "{image}"
    );
    for file in ["docker/compose.yaml", "docker/compose.sandbox.yaml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let users = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("user:"));
        for user in users {
            assert!(
                user.contains(|c: char| c.is_ascii_digit()),
                "{file}: {user}"
            );
        }
    }
}
