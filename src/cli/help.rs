//! The help of all commands: the examples come first, since most people look for one.

use clap::{Command, builder::StyledStr};

/// The order of a help page. The text before the options holds the examples.
const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

{before-help}{all-args}{after-help}
";

/// Stands for a space in an example, so that the line is not broken and can be copied.
const NO_BREAK_SPACE: &str = "\u{a0}";

/// Moves the examples of each command from the end of its help to the front of its options. They are the first part
/// of the text, up to an empty line.
pub(super) fn with_examples_first(command: Command) -> Command {
    let command = command.mut_subcommands(with_examples_first);
    let short = split(command.get_after_help());
    let long = split(command.get_after_long_help());
    let mut command = command.help_template(TEMPLATE);
    if let Some(HelpEnd { examples, notes }) = short {
        command = command.before_help(examples).after_help(notes);
    }
    if let Some(HelpEnd { examples, notes }) = long {
        command = command.before_long_help(examples).after_long_help(notes);
    }
    command
}

/// The text after the options of a command's help.
struct HelpEnd {
    examples: String,
    notes: String,
}

/// Splits a text at its first empty line.
fn split(text: Option<&StyledStr>) -> Option<HelpEnd> {
    let text = text?.to_string();
    let (examples, notes) = text.split_once("\n\n").unwrap_or((&text, ""));
    Some(HelpEnd {
        examples: examples.replace(' ', NO_BREAK_SPACE),
        notes: notes.to_owned(),
    })
}

/// Returns help as it is printed: with ordinary spaces in the examples.
pub(super) fn printable(help: &str) -> String {
    help.replace(NO_BREAK_SPACE, " ")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn the_examples_come_first_and_unbroken_and_the_notes_last() {
        let long = format!("Example: below {}", "--option a ".repeat(20));
        let below = Command::new("below")
            .about("Does it.")
            .arg(Arg::new("option").long("option"))
            .after_help(format!("{long}\nExample: below\n\nNotes.\n\nMore."));
        let mut whole = with_examples_first(Command::new("top").subcommand(below));
        let help = whole.find_subcommand_mut("below").unwrap().render_help();
        let help = printable(&help.to_string());
        let places = [
            "Does it.",
            "Usage:",
            &long,
            "Example: below\n\n",
            "--option <option>",
            "Notes.\n\nMore.",
        ]
        .map(|text| help.find(text).unwrap_or_else(|| panic!("{text}: {help}")));
        assert!(places.is_sorted(), "{help}");
    }
}
