//! Who may read and write what git keeps: as the umask says, and as `core.sharedRepository` of the repository does, see
//! git-config(1).

use std::{
    fs::Permissions,
    io,
    os::{fd::AsFd, unix::fs::PermissionsExt as _},
    path::Path,
};

use gix::bstr::ByteSlice as _;
use rustix::fs::{CWD, Mode, OFlags};

/// `group`: bits that are added to those of the umask.
const GROUP: i32 = 0o660;
/// `all`, in the same way.
const ALL: i32 = 0o664;
/// What others may never do.
const MASK: i32 = 0o666;

/// The permissions of a repository's files, as git has them: bits to add, or if negative, to have; zero is the umask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sharing(i32);

impl Sharing {
    pub fn of(repo: &gix::Repository) -> Self {
        let config = repo.config_snapshot();
        let text = config.string("core.sharedRepository");
        Self(match text {
            Some(text) => {
                let flag = || config.boolean("core.sharedRepository");
                parse(&text.to_str_lossy()).unwrap_or_else(|| if flag() == Some(true) { GROUP } else { 0 })
            }
            None => 0,
        })
    }

    /// Whether it is another than what the umask says.
    pub fn is_set(self) -> bool {
        self.0 != 0
    }

    /// Let the file or directory `path`, which was just written or made, have them. What belongs to another user stays as it is; and
    /// a link is not followed.
    pub fn path(self, path: &Path) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if self.is_set()
            && let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty())
        {
            self.file(&file).ok();
        }
    }

    pub fn file(self, file: impl AsFd) -> io::Result<()> {
        if !self.is_set() {
            return Ok(());
        }
        let now = rustix::fs::fstat(&file)?.st_mode;
        let wanted =
            gix::fs::adjust_shared_repository_permissions(Permissions::from_mode(now), self.0).mode();
        if wanted != now {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(wanted & 0o7777))?;
        }
        Ok(())
    }
}

/// What git makes of the value; none if it is none of a mode.
fn parse(text: &str) -> Option<i32> {
    match text {
        "umask" => Some(0),
        "group" => Some(GROUP),
        "all" | "world" | "everybody" => Some(ALL),
        "" => Some(0),
        octal => match i32::from_str_radix(octal, 8).ok()? {
            0 => Some(0),
            1 => Some(GROUP),
            2 => Some(ALL),
            // git refuses one by which its owner cannot read and write.
            mode if mode & 0o600 != 0o600 => Some(0),
            mode => Some(-(mode & MASK)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_git() {
        for (text, meant) in [
            ("umask", Some(0)),
            ("group", Some(0o660)),
            ("world", Some(0o664)),
            ("0640", Some(-0o640)),
            ("0777", Some(-0o666)),
            ("1", Some(0o660)),
            ("2", Some(0o664)),
            ("0440", Some(0)),
            ("true", None),
            ("no", None),
        ] {
            assert_eq!(parse(text), meant, "{text}");
        }
    }
}
