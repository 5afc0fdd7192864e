//! `basiq-relay man`: prints the manual page of all commands.

use std::io::{self, Write};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::cli::{Cli, exit::CommandFailure, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: basiq-relay man > ~/.local/share/man/man1/basiq-relay.1
Example: basiq-relay man | man -l -")]
pub(super) struct ManArgs {}

pub(super) fn run(_: &ManArgs) -> Result<(), CommandFailure> {
    let page = page(Cli::command()).context("the manual page cannot be written")?;
    output::document(&page)?;
    Ok(())
}

/// Renders the whole manual as one page. Each command has a section in it, so the page refers to no other page, which
/// might not be installed.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut command = command
        .disable_help_subcommand(true)
        .subcommand_value_name("command");
    command.build();
    let top = Man::new(command.clone()).manual("User Commands");
    let mut page = Vec::new();
    top.render_title(&mut page)?;
    top.render_name_section(&mut page)?;
    top.render_synopsis_section(&mut page)?;
    top.render_description_section(&mut page)?;
    top.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for below in command.get_subcommands() {
        describe(below, &mut page)?;
    }
    for section in [&EXIT_STATUS, &FILES, &SEE_ALSO] {
        section.render().to_writer(&mut page)?;
    }
    Ok(with_one_preamble(&page))
}

/// A section of terms and what they mean.
struct Section {
    heading: &'static str,
    terms: &'static [(&'static str, &'static str)],
}

const EXIT_STATUS: Section = Section {
    heading: "EXIT STATUS",
    terms: &[
        ("0", "Done."),
        (
            "1",
            "Failed: a port in use, a database out of reach, a relay out of reach, a watch that does not exist, a \
             watched job that failed.",
        ),
        (
            "2",
            "Wrong usage or configuration, or a request that the relay refused.",
        ),
    ],
};

const FILES: Section = Section {
    heading: "FILES",
    terms: &[
        (
            "relay.toml",
            "Settings, in the working directory; --config names another file. The environment takes precedence.",
        ),
        (
            "basiq-relay.db",
            "The SQLite store, in the working directory, unless RELAY_DATABASE_URL names another one. Beside it are \
             files with the endings -wal, -shm and .lock.",
        ),
    ],
};

const SEE_ALSO: Section = Section {
    heading: "SEE ALSO",
    terms: &[
        (
            "basiq-relay COMMAND --help",
            "The same text for one command; `basiq-relay serve --help` lists every setting.",
        ),
        (
            "/docs, /openapi.json, /console",
            "Pages of a running relay: its HTTP API, the OpenAPI document, the console for operators.",
        ),
        (
            "https://www.standardwebhooks.com",
            "The specification of the signatures.",
        ),
    ],
};

impl Section {
    fn render(&self) -> Roff {
        let mut roff = Roff::new();
        roff.control("SH", [self.heading]);
        for (term, meaning) in self.terms {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*meaning)]);
        }
        roff
    }
}

/// Keeps one copy of the lines that define an apostrophe. Each rendered part begins with them.
fn with_one_preamble(page: &[u8]) -> Vec<u8> {
    let defines = |line: &[u8]| line.ends_with(b" .ds Aq '\n") || line.ends_with(b".ds Aq \\(aq\n");
    let lines = page.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.enumerate();
    let kept = lines.filter(|(number, line)| *number < 2 || !defines(line));
    kept.flat_map(|(_, line)| line).copied().collect()
}

/// Renders one command, and then its subcommands.
fn describe(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    writeln!(page, ".SS {name:?}")?;
    // The top of the page describes the help option once for all commands.
    let command_alone = command.clone().subcommand_value_name("command");
    let man = Man::new(command_alone.mut_arg("help", |help| help.hide(true)));
    part(page, |out| man.render_description_section(out))?;
    page.extend_from_slice(b".PP\n");
    part(page, |out| man.render_synopsis_section(out))?;
    part(page, |out| man.render_options_section(out))?;
    page.extend_from_slice(b".PP\n.nf\n");
    part(page, |out| man.render_extra_section(out))?;
    page.extend_from_slice(b".fi\n");
    for below in command.get_subcommands() {
        describe(below, page)?;
    }
    Ok(())
}

/// Renders a part of a page without its heading.
fn part(page: &mut Vec<u8>, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut rendered = Vec::new();
    render(&mut rendered)?;
    for line in rendered.split_inclusive(|byte| *byte == b'\n') {
        if !line.starts_with(b".SH") {
            page.extend_from_slice(line);
        }
    }
    Ok(())
}
