//! Refuses to let root deploy to a directory of another user: that user's runs would fail at root's files.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
};

use super::Arguments;
use crate::{
    base::{
        fault::{Failure, Kind},
        words::typed,
    },
    cli::given::config_file,
    config::Target,
    daemon::peer::Accounts,
};

/// Why root must not run `target`, with the command to type instead; nothing if root may.
pub(super) fn refused(target: &Target, arguments: &Arguments) -> Option<Failure> {
    if arguments.as_root || !rustix::process::geteuid().is_root() {
        return None;
    }
    let git_dir = target.site.git_dir();
    // The other user's runs would need the files in the git directory.
    let paths = [git_dir.as_path(), target.site.root().as_path()];
    let (path, owner) = paths.into_iter().find_map(|path| {
        let meta = fs::metadata(path).ok()?;
        (meta.uid() != 0).then(|| (path, (meta.uid(), meta.gid())))
    })?;
    let name = Accounts::default().look().user(owner.0).map(str::to_owned);
    let user = name.clone().unwrap_or_else(|| format!("the user {}", owner.0));
    let message = format!(
        "{} belongs to {user}, who could not use what root writes there; nothing was done",
        path.display()
    );
    let help = format!(
        "type: {} {}; or, if root is to write there, add --as-root",
        become_user(owner, name),
        command(arguments)
    );
    Some(Failure::new(Kind::Path, message, Some(&help)))
}

/// The words before a command that let another user run it.
fn become_user((uid, gid): (u32, u32), name: Option<String>) -> String {
    match name {
        Some(name) => format!("runuser -u {} --", typed([name])),
        // runuser takes only names.
        None => format!("setpriv --reuid={uid} --regid={gid} --clear-groups --"),
    }
}

/// This command, as it was typed; with the configuration that was found, as that user may find another one.
fn command(arguments: &Arguments) -> String {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| String::from_utf8_lossy(word.as_bytes()).into_owned());
    let mut words: Vec<String> = ["gitsocket".to_owned()].into_iter().chain(words).collect();
    if arguments.config.is_none() && arguments.git.is_none() {
        let file = config_file(None);
        let file = std::path::absolute(&file).unwrap_or(file);
        words.extend(["-c".to_owned(), file.display().to_string()]);
    }
    typed(words)
}
