//! `basiq-relay completions`: prints a script that completes commands and options in a shell.

use clap_complete::Shell;

use crate::cli::{NAME, command, exit::CommandFailure, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: basiq-relay completions bash > ~/.local/share/bash-completion/completions/basiq-relay
Example: basiq-relay completions zsh > ~/.zfunc/_basiq-relay
Example: basiq-relay completions fish > ~/.config/fish/completions/basiq-relay.fish")]
pub(super) struct CompletionsArgs {
    /// Shell to complete for.
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), CommandFailure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), NAME, &mut script);
    output::document(&script)?;
    Ok(())
}
