//! The command line and shells: completions, a manual page, and output without colours.

use std::process::{Output, Stdio};

use basiq_relay::cli::command;
use clap::Command as Description;
use relay_domain::SigningSecret;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::support::{
    TestDatabase,
    on_terminal::OnTerminal,
    process::{RelaySetup, binary},
};

async fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary();
    command.args(arguments).current_dir(folder.path());
    command.output().await.unwrap()
}

async fn printed(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns every command and subcommand in the form in which it is called.
fn calls(description: &Description, before: &str) -> Vec<String> {
    let commands = description.get_subcommands();
    let calls = commands.flat_map(|command| {
        let call = format!("{before}{}", command.get_name());
        let below = calls(command, &format!("{call} "));
        std::iter::once(call).chain(below)
    });
    calls.collect()
}

#[tokio::test]
async fn every_shell_completes_every_command() {
    let calls = calls(&command(), "");
    assert!(calls.iter().any(|call| call == "watch"), "{calls:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]).await;
        for call in &calls {
            let name = call.rsplit(' ').next().unwrap();
            assert!(script.contains(name), "{shell}: {call}");
        }
        assert!(script.contains("key-file"), "{shell}");
    }
    let output = run(&["completions", "tcsh"]).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn bash_takes_its_completions_and_completes_with_them() {
    let script = printed(&["completions", "bash"]).await;
    let mut bash = Command::new("bash");
    let question = "\nCOMP_WORDS=(basiq-relay wat); COMP_CWORD=1; \
        _basiq__relay basiq-relay wat basiq-relay; echo \"${COMPREPLY[@]}\"";
    bash.args(["--norc", "-c", &format!("{script}{question}")]);
    let output = bash.output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "watch");
}

#[tokio::test]
async fn the_manual_has_a_section_for_every_command_and_all_its_options() {
    let page = printed(&["man"]).await.replace("\\-", "-");
    assert!(page.contains("\n.TH basiq-relay 1 "), "{page}");
    for heading in ["\"EXIT STATUS\"", "FILES", "\"SEE ALSO\""] {
        assert!(page.contains(&format!("\n.SH {heading}\n")), "{heading}");
    }
    assert_eq!(
        page.matches(".ds Aq").count(),
        2,
        "defined once, in two cases"
    );
    for call in calls(&command(), "basiq-relay ") {
        let head = format!("\n.SS \"{call}\"\n");
        let section = page
            .split_once(&head)
            .unwrap_or_else(|| panic!("no {call}"))
            .1;
        let section = section.split("\n.S").next().unwrap();
        assert!(section.contains("Example: "), "{call}");
        let mut described = &command();
        for name in call.split(' ').skip(1) {
            described = described.find_subcommand(name).unwrap();
        }
        for option in described.get_opts().filter_map(|option| option.get_long()) {
            assert!(
                section.contains(&format!("--{option}")),
                "{call} --{option}"
            );
        }
    }
    assert!(page.contains("BASIQ_RELAY_KEY"));
    assert!(
        !page.contains(".SH SUBCOMMANDS"),
        "no page that is not there"
    );
}

/// Returns a command whose output is a pipe, in an environment that asks for colours.
fn piped(arguments: &[&str]) -> Command {
    let mut command = binary();
    command
        .args(arguments)
        .envs([
            ("CLICOLOR_FORCE", "1"),
            ("TERM", "xterm-256color"),
            ("CI", "1"),
        ])
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn interrupt(child: &Child) {
    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn no_escape_codes_are_printed_where_there_is_no_terminal() {
    let output = piped(&["demo"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("12 of 12 scenarios"), "{told}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        !told.contains('\u{1b}') && !errors.contains('\u{1b}'),
        "{told}{errors}"
    );
}

#[tokio::test]
async fn the_demo_fits_a_terminal_of_80_columns() {
    let mut demo = binary();
    demo.arg("demo").env("TERM", "dumb");
    let (code, lines) = OnTerminal::start(&demo).end().await;
    assert_eq!(code, Some(0), "{lines:#?}");
    let messages = lines.iter().filter(|line| line.starts_with("          "));
    assert!(messages.count() > 12, "{lines:#?}");
    let wide: Vec<_> = lines
        .iter()
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let begun = lines.iter().filter(|line| line.ends_with("  begins"));
    assert_eq!(begun.count(), 12, "{lines:#?}");
    let (begins, acts) = ("  a challenge, left to expire   ", "begins");
    let of_one: Vec<_> = lines.iter().filter(|line| line.contains(begins)).collect();
    assert!(of_one[0].ends_with(acts), "{of_one:#?}");
    assert!(of_one[1].ends_with("  answer-mfa"), "{of_one:#?}");
    assert!(of_one[2].ends_with("  nobody answers"), "{of_one:#?}");
    let story = "          The bank asks for a code. Nobody answers, and the challenge expires";
    assert!(lines.iter().any(|line| line == story), "{lines:#?}");
}

#[tokio::test]
async fn a_relay_on_a_terminal_tells_its_addresses_and_none_in_a_pipe() {
    let database = TestDatabase::sqlite();
    let mut setup = RelaySetup::new(&database, "http://127.0.0.1:9");
    setup.environment = vec![("RELAY_LOG", "error".to_owned())];
    let mut serve = setup.command();
    serve.arg("serve").stdout(Stdio::piped());
    let mut relay = OnTerminal::start(&serve);
    // Ctrl-C
    relay.types("\u{3}", "client add NAME").await;
    let (code, lines) = relay.end().await;
    assert_eq!(code, Some(0), "{lines:#?}");
    for (name, value) in [
        ("API", "http://127.0.0.1:"),
        ("docs", "/docs"),
        ("console", "off; RELAY_ADMIN_TOKEN opens it"),
        ("metrics", "/metrics"),
        ("Basiq", "http://127.0.0.1:9"),
        (
            "callbacks",
            "https:// and http://; public addresses, 127.0.0.0/8",
        ),
        ("secrets", "stored unencrypted"),
    ] {
        let start = format!("  {name:<9}  ");
        let line = lines.iter().find(|line| line.starts_with(&start));
        assert!(
            line.is_some_and(|line| line.contains(value)),
            "{name}: {lines:#?}"
        );
    }
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{lines:#?}"
    );
    let piped = serve.spawn().unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    interrupt(&piped).await;
    let output = piped.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[tokio::test]
async fn a_receiver_in_a_pipe_prints_plain_text_whatever_comes() {
    let secret = SigningSecret::generate();
    let arguments = [
        "listen",
        "--listen",
        "127.0.0.1:0",
        "--secret",
        secret.expose(),
    ];
    let mut child = piped(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let url = first.split_whitespace().nth(2).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for body in [
        r#"{"status":"failed","action":"retry","userMessage":"Try again."}"#,
        "odd \u{1b}[31mcolours",
    ] {
        let answer = http.post(url).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 401, "it is not signed");
    }
    interrupt(&child).await;
    let mut told = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        told = told + &line + "\n";
    }
    assert!(told.contains("SIGNATURE NOT VALID  answered 401"), "{told}");
    assert!(told.contains("failed  → retry\nTry again.\n"), "{told}");
    assert!(told.contains("odd \u{fffd}[31mcolours"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}
