//! The command line: one file per command.

mod answer;
mod backup;
mod callback_auth;
mod cancel;
mod challenge;
mod client;
mod client_secrets;
mod colour;
mod completions;
mod confirm;
mod demo;
mod erase;
mod exit;
mod healthcheck;
mod help;
mod list;
mod listen;
mod man;
mod migrate_store;
mod openapi;
mod operator;
mod output;
mod progress;
pub mod receiver;
mod redeliver;
mod relay_client;
mod sandbox;
mod serve;
mod show;
mod start_summary;
mod subscribe;
mod terminal;
mod test_callback;
mod threads;
mod values;
mod watch;
mod watch_document;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

use crate::cli::exit::CommandFailure;

/// The name of the program.
const NAME: &str = "basiq-relay";

/// Watches Basiq jobs and reports the outcome of each to your backend with one signed webhook.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    after_help = "\
Example: basiq-relay demo
Example: basiq-relay serve --config relay.toml
Example: basiq-relay watch 248b2883 --url https://app.example/hooks/bank

`basiq-relay COMMAND --help` has examples of each command.",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play every documented scenario against a built-in Basiq look-alike, and check each.
    Demo(demo::DemoArgs),
    /// Run the relay.
    Serve(serve::ServeArgs),
    /// Run a Basiq look-alike on this machine, to test an integration.
    Sandbox(sandbox::SandboxArgs),
    /// Run a receiver on this machine that verifies and prints each event.
    Listen(listen::ListenArgs),
    /// Watch one job at a running relay and follow it until it ends.
    Watch(watch::WatchArgs),
    /// Subscribe to a person at a running relay, which then watches all the person's jobs and sends notices.
    Subscribe(subscribe::SubscribeArgs),
    /// Ask a running relay to post a signed test event to a callback, and say what to do about the answer.
    TestCallback(test_callback::TestCallbackArgs),
    /// List the watches at a running relay, newest first.
    List(list::ListArgs),
    /// Show one watch at a running relay, with its events and each attempt to deliver them.
    Show(show::ShowArgs),
    /// Send the latest event of a watch at a running relay once more, or all dead events.
    Redeliver(redeliver::RedeliverArgs),
    /// Cancel a watch at a running relay, which then posts nothing more for it.
    Cancel(cancel::CancelArgs),
    /// Answer a challenge of the bank through a running relay.
    Answer(answer::AnswerArgs),
    /// Manage API clients.
    Client(client::ClientArgs),
    /// Copy the SQLite store to a new file while the relay runs, and check the copy.
    Backup(backup::BackupArgs),
    /// Delete all that the store holds about a person or a connection.
    Erase(erase::EraseArgs),
    /// Move a SQLite relay's data to PostgreSQL, where open watches continue, and compare the counts of rows.
    MigrateStore(migrate_store::MigrateStoreArgs),
    /// Ask a running relay whether it is ready: exit 0 or 1, for container health checks.
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print the OpenAPI 3.1 document.
    Openapi(openapi::OpenapiArgs),
    /// Print a script that completes commands and options in a shell.
    Completions(completions::CompletionsArgs),
    /// Print the manual page of all commands.
    Man(man::ManArgs),
}

/// The settings file, for commands that read settings.
#[derive(Debug, Clone, clap::Args)]
struct ConfigArg {
    /// Settings file; without it, `relay.toml` is read if it exists.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

/// Parses the command line, runs the command and returns its exit code: 0 done, 1 failed, 2 wrong usage or
/// configuration.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = command().try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let outcome = threads::runtime(own_threads(&cli.command))
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Returns an upper estimate of the threads that a command starts in addition to the runtime's: those of the store and
/// of the trace exporter.
fn own_threads(command: &Command) -> usize {
    match command {
        Command::Serve(_) | Command::Demo(_) | Command::MigrateStore(_) => 12,
        Command::Client(_) | Command::Erase(_) => 6,
        Command::Backup(_) => 1,
        Command::Sandbox(_)
        | Command::Listen(_)
        | Command::Watch(_)
        | Command::Subscribe(_)
        | Command::TestCallback(_)
        | Command::List(_)
        | Command::Show(_)
        | Command::Redeliver(_)
        | Command::Cancel(_)
        | Command::Answer(_)
        | Command::Healthcheck(_)
        | Command::Openapi(_)
        | Command::Completions(_)
        | Command::Man(_) => 0,
    }
}

/// Prints clap's message and returns the exit code. The message repeats arguments. An argument that may be an address
/// with a password is replaced, and no argument of `answer` is repeated.
fn usage(error: &clap::Error) -> ExitCode {
    let is_asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let arguments: Vec<_> = arguments.collect();
    let shown = without_secrets(error, &arguments).filter(|_| !is_asked_for);
    let is_printed = match shown {
        Some(shown) => io::stderr().write_all(shown.as_bytes()),
        None => print(error),
    };
    if is_printed.is_err() || !is_asked_for {
        return ExitCode::from(exit::USAGE);
    }
    ExitCode::SUCCESS
}

/// Prints clap's message. A file or a pipe stays plain even where `CLICOLOR_FORCE` asks for colours.
fn print(error: &clap::Error) -> io::Result<()> {
    let (said, to_errors) = (error.render(), error.use_stderr());
    let plain = help::printable(&said.to_string());
    let coloured = help::printable(&said.ansi().to_string());
    match to_errors {
        true if !io::stderr().is_terminal() => io::stderr().write_all(plain.as_bytes()),
        false if !io::stdout().is_terminal() => io::stdout().write_all(plain.as_bytes()),
        true => anstream::stderr().write_all(coloured.as_bytes()),
        false => anstream::stdout().write_all(coloured.as_bytes()),
    }
}

/// Returns the message of an error without the secrets that it would repeat. Returns `None` if it repeats none.
fn without_secrets(error: &clap::Error, arguments: &[String]) -> Option<String> {
    if arguments.get(1).is_some_and(|command| command == "answer") {
        let what = error.kind().as_str().unwrap_or("wrong usage");
        return Some(format!(
            "error: {what} (what was given is not shown, since it may be an answer)\n\n\
             Usage: {NAME} answer [OPTIONS] <WATCH> <TEXT>...\n\n\
             For more information, try '{NAME} answer --help'.\n"
        ));
    }
    let said = error.render().to_string();
    let secret = arguments
        .iter()
        .filter(|argument| may_hold_a_password(argument) && said.contains(argument.as_str()));
    secret.fold(None, |shown: Option<String>, argument| {
        let text = shown.unwrap_or_else(|| said.clone());
        Some(text.replace(argument.as_str(), "(an address, not shown)"))
    })
}

fn may_hold_a_password(argument: &str) -> bool {
    argument.contains("password=") || (argument.contains(':') && argument.contains('@'))
}

async fn run(command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Serve(args) => Box::pin(serve::run(args)).await,
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Listen(args) => listen::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Subscribe(args) => subscribe::run(args).await,
        Command::TestCallback(args) => test_callback::run(args).await,
        Command::List(args) => list::run(args).await,
        Command::Show(args) => show::run(args).await,
        Command::Redeliver(args) => redeliver::run(args).await,
        Command::Cancel(args) => cancel::run(args).await,
        Command::Answer(args) => answer::run(args).await,
        Command::Client(args) => Box::pin(client::run(args)).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Erase(args) => Box::pin(erase::run(args)).await,
        Command::MigrateStore(args) => migrate_store::run(args).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Openapi(args) => openapi::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The definition of the command line, for completions, the manual, and tests of its help.
#[must_use]
pub fn command() -> clap::Command {
    help::with_examples_first(Cli::command())
}
