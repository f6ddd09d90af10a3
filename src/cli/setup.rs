//! `gitsocket setup`: writes the `post-checkout` hook of a trigger's clone.
//!
//! It is the one command that starts a program for a user at a terminal: the editor.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::{ArgsInfo, FromArgs};

use super::{Show, fail, fail_named, load, print, say, trigger_name, unknown_trigger, usage};
use crate::{
    base::fault::{Blame, Kind, one_line},
    config::{DEFAULT_HOOK_TIMEOUT, Hook, Target},
    deploy::{
        existing::{self, Existing},
        hook::install::Hooks,
    },
};

mod editor;
use editor::Editor;

/// write the post-checkout hook of a trigger, which runs when a run has changed the directory
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "setup",
    note = "The hook is hooks/post-checkout in the clone's git directory. Without --command,\n\
            $VISUAL or $EDITOR is started on a template; with --force, on the hook that is\n\
            there."
)]
pub(super) struct Arguments {
    /// the trigger's name
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// the configuration; default: $GITSOCKET_CONFIG, ./config.ron, /etc/gitsocket/config.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// the hook's commands, as lines for /bin/sh; or, if they begin with #!, the whole hook
    #[argh(option, arg_name = "COMMAND")]
    command: Option<String>,
    /// replace the hook that is there
    #[argh(switch)]
    force: bool,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum Error {
    #[error(
        "{name} has not been deployed yet, so there is no clone that a hook could be in: {git_dir} is missing"
    )]
    #[diagnostic(help("deploy it once: gitsocket once {}{name}", config.as_ref().map(|file| format!("-c {} ", file.display())).unwrap_or_default()))]
    NotDeployed {
        name: String,
        git_dir: String,
        config: Option<PathBuf>,
    },
    #[error("{path} exists already and was kept")]
    #[diagnostic(help("{}", if *command {
        "give --force to replace it"
    } else {
        "give --force to edit it"
    }))]
    Kept { path: String, command: bool },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Path
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let given = arguments.command.as_deref().map(str::trim);
    if given == Some("") {
        return Err(usage(
            "--command is empty; give what the hook is to do, such as --command 'make install'",
        ));
    }
    let config = load(arguments.config.as_ref()).map_err(fail)?;
    let show = Show::new(false, false);
    let name = trigger_name(&show, &arguments.name)?;
    let name = name.as_str();
    let Some(target) = config.triggers.get(name) else {
        return Err(fail_named(&show, name, unknown_trigger(name, &config)));
    };
    let hooks = Hooks::open(&git_dir(target, arguments)?).map_err(fail)?;
    let there = hooks.read().map_err(fail)?;
    let shown = hooks.path.display().to_string();
    if let (Some(command), Some(there)) = (given, &there)
        && there.executable
        && there.content == script(command)
    {
        print(&format!("{shown} holds this hook already"));
        warn(target, &there.content);
        return Ok(ExitCode::SUCCESS);
    }
    if there.is_some() && !arguments.force {
        let command = given.is_some();
        return Err(fail(Error::Kept { path: shown, command }));
    }
    let (content, draft) = match given {
        Some(command) => (script(command), None),
        None => {
            let start = there.map_or_else(|| template(target).into_bytes(), |there| there.content);
            let (content, draft) = Editor::of_environment()
                .and_then(|editor| editor.edit(&start))
                .map_err(fail)?;
            (content, Some(draft))
        }
    };
    if let Err(err) = hooks.write(&content) {
        if let Some(draft) = draft {
            say(&format!("what you wrote is in {}", draft.keep().display()));
        }
        return Err(fail(err));
    }
    print(&format!("wrote {shown}"));
    warn(target, &content);
    Ok(ExitCode::SUCCESS)
}

/// The git directory of the clone, which has to exist: half of one would look like a repository.
fn git_dir(target: &Target, arguments: &Arguments) -> Result<PathBuf, ExitCode> {
    if let Existing::Worktree(git_dir) = existing::find(target).map_err(fail)? {
        return Ok(git_dir);
    }
    Err(fail(Error::NotDeployed {
        name: arguments.name.clone(),
        git_dir: target.site.git_dir().display().to_string(),
        config: arguments.config.clone(),
    }))
}

/// What makes a hook of `command`.
fn script(command: &str) -> Vec<u8> {
    let first = if command.starts_with("#!") {
        ""
    } else {
        "#!/bin/sh\n"
    };
    format!("{first}{command}\n").into_bytes()
}

/// Print why the hook will do nothing, if so.
fn warn(target: &Target, content: &[u8]) {
    if !target.hooks.contains(&Hook::PostCheckout) {
        say(&format!(
            "warning: `hooks` of {} in the configuration does not contain PostCheckout, so this hook will not run",
            target.trigger
        ));
    }
    match interpreter(content) {
        Some(program) if program.exists() => {}
        Some(program) => say(&format!(
            "warning: {} is missing on this machine, so the hook cannot start; the configuration can name a program that \
             needs no shell: hooks: [Exec(run: [\"/path/to/program\"])]",
            program.display()
        )),
        None if content.starts_with(b"\x7fELF") => {}
        None => say(
            "warning: gitsocket starts hooks without a shell, so the hook needs a first line such as #!/bin/sh",
        ),
    }
}

/// What the first line names, see execve(2).
fn interpreter(content: &[u8]) -> Option<&Path> {
    let line = content.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line
        .split(|byte| b" \t".contains(byte))
        .filter(|word| !word.is_empty());
    words.next().map(|word| Path::new(OsStr::from_bytes(word)))
}

fn template(target: &Target) -> String {
    // A line break in it would end the comment.
    let site = &target.site;
    let at = match &site.releases {
        Some(releases) => site.path.as_path().join(releases.live.name()),
        None => site.path.as_path().into(),
    };
    let path = one_line(&at.display().to_string());
    let name = &target.trigger;
    let limit = humantime::format_duration(DEFAULT_HOOK_TIMEOUT);
    format!(
        r#"#!/bin/sh
# Hook of the gitsocket trigger {name}. It runs in
#     {path}
# when a run of the trigger has changed something there. It has no input. The clients of the
# run get the lines that it prints. If it does not end with exit status 0 within {limit}, it has
# failed, and the next run starts it again.
#
# $1  the commit that the hooks last succeeded for; zeros if there is none
# $2  the commit that is deployed now
# $3  1
#
# GITSOCKET_TRIGGER        {name}
# GITSOCKET_RUN            the id of the run
# GITSOCKET_REPO           the URL of the repository, without secrets
# GITSOCKET_REVISION       the branch, tag or commit that is deployed
# GITSOCKET_BRANCH         the same, but empty for a commit
# GITSOCKET_PATH           {}
# GITSOCKET_OLD            as $1
# GITSOCKET_NEW            as $2
# GITSOCKET_CHANGED_FILES  a file that lists the paths which differ between these two, one a line
#
# Write the commands below, save, and leave the editor. If you change nothing, no hook is written.

"#,
        one_line(&site.path.to_string())
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (content, expected) in [
            ("#!/bin/sh\nx", Some("/bin/sh")),
            ("#! /usr/bin/env -S python3\nx", Some("/usr/bin/env")),
            ("#!/bin/sh", Some("/bin/sh")),
            ("#!\nx", None),
            ("make", None),
            ("", None),
        ] {
            assert_eq!(
                interpreter(content.as_bytes()),
                expected.map(Path::new),
                "{content:?}"
            );
        }
        assert_eq!(script("make"), b"#!/bin/sh\nmake\n");
        assert_eq!(script("#!/bin/make -f\nall:"), b"#!/bin/make -f\nall:\n");
    }
}
