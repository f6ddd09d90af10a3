//! The only printing there is: results on stdout, everything else on stderr.

use std::{io::IsTerminal as _, io::Write as _, process::ExitCode};

use crate::base::fault::{Blame, Kind};

/// Print a result on stdout. A reader that has closed stdout needs no result, so that is no error.
pub(super) fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

/// Print anything else on stderr.
pub(super) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

pub(super) fn usage(message: &str) -> ExitCode {
    say(message);
    ExitCode::from(Kind::Config.exit())
}

/// Show an error that is not a run's, with its source and remedy.
pub(super) fn fail<E: Blame + Send + Sync + 'static>(error: E) -> ExitCode {
    let exit = error.kind().exit();
    let is_terminal = std::io::stderr().is_terminal();
    let theme = if is_terminal {
        miette::GraphicalTheme::unicode_nocolor()
    } else {
        miette::GraphicalTheme::none()
    };
    let mut text = String::new();
    // What is not for a terminal is for a log or a script, where a message that is in one piece can be found.
    let mut handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_width(100)
        .with_wrap_lines(is_terminal);
    // Most messages end with their cause.
    if error
        .source()
        .is_some_and(|cause| error.to_string().contains(&cause.to_string()))
    {
        handler = handler.without_cause_chain();
    }
    match handler.render_report(&mut text, &error) {
        Ok(()) => say(text.trim_end()),
        Err(_) => say(&error.to_string()),
    }
    ExitCode::from(exit)
}
