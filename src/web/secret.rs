//! Secrets of the front: read from their files at the start, and again once these have changed. Blocking.
//!
//! A file that cannot be read any more gives no secret: requests that need it are refused from then on.

use std::{
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use crate::base::secret::{Error, Secret};
use crate::base::{identity::Stamp, mutex, name::AbsPath};

/// Checks the form of a secret. The error is the end of a sentence.
pub type Usable = fn(&Secret) -> Result<(), &'static str>;

/// Two changes within this time may leave the same file times.
const ONE_MOMENT: Duration = Duration::from_millis(100);

/// The secrets in some files, any of which is accepted.
#[derive(Debug)]
pub struct Secrets {
    files: Vec<AbsPath>,
    usable: Usable,
    known: Mutex<Known>,
}

/// What the files held when they were looked at.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The secrets.
    pub secrets: Arc<Vec<Secret>>,
    /// The errors of files without a usable secret.
    pub errors: Arc<Vec<Error>>,
    /// The stamps of the files; none for a file that may have changed at the same moment.
    stamps: Vec<Option<Stamp>>,
}

impl Secrets {
    /// Read `files`, of which each must hold a secret that is `usable`.
    pub fn read(files: Vec<AbsPath>, usable: Usable) -> Result<Self, Error> {
        let mut known = look(&files, usable);
        if let Some(errors) = Arc::get_mut(&mut known.errors)
            && !errors.is_empty()
        {
            return Err(errors.swap_remove(0));
        }
        Ok(Self {
            files,
            usable,
            known: Mutex::new(known),
        })
    }

    /// What the files hold now.
    pub fn current(&self) -> Known {
        let mut known = mutex::lock(&self.known);
        if known.stamps.iter().any(Option::is_none) || known.stamps != stamps(&self.files) {
            // A pipe gives its secret only once.
            if self.files.iter().any(is_pipe) {
                return known.clone();
            }
            let new = look(&self.files, self.usable);
            for error in new.errors.iter() {
                if !known
                    .errors
                    .iter()
                    .any(|old| old.to_string() == error.to_string())
                {
                    tracing::error!("{error}");
                }
            }
            *known = new;
        }
        known.clone()
    }
}

/// Read the files. Each stamp is taken before the file is read, so that a change in between is noticed the next time. A file that
/// could not be read gets no stamp, and is read again: the process may have been out of descriptors or memory.
fn look(files: &[AbsPath], usable: Usable) -> Known {
    let mut stamps = stamps(files);
    let (mut secrets, mut errors) = (Vec::new(), Vec::new());
    for (file, stamp) in files.iter().zip(&mut stamps) {
        let content = |reason| Error::Content {
            path: file.clone(),
            reason,
        };
        let read = Secret::read(file).and_then(|secret| match usable(&secret) {
            Ok(()) => Ok(secret),
            Err(reason) => Err(content(reason)),
        });
        match read {
            Ok(secret) => secrets.push(secret),
            Err(error) => {
                stamp.take_if(|_| matches!(error, Error::Read { .. }));
                errors.push(error);
            }
        }
    }
    Known {
        secrets: Arc::new(secrets),
        errors: Arc::new(errors),
        stamps,
    }
}

fn stamps(files: &[AbsPath]) -> Vec<Option<Stamp>> {
    let stamp = |file: &AbsPath| {
        let meta = fs::metadata(file).ok()?;
        is_settled(&meta).then(|| Stamp::of(&meta))
    };
    files.iter().map(stamp).collect()
}

fn is_settled(meta: &Metadata) -> bool {
    let changed = u64::try_from(meta.ctime()).unwrap_or_default();
    let changed = Duration::new(changed, u32::try_from(meta.ctime_nsec()).unwrap_or_default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) > ONE_MOMENT
}

fn is_pipe(file: &AbsPath) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.file_type().is_fifo())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    #[test]
    fn secrets_are_read_again_when_their_files_change() {
        let dir = crate::machine::tempdir().unwrap();
        let path = |name: &str| AbsPath::resolve(dir.path(), Path::new(name)).unwrap();
        let write = |name: &str, text: &str| {
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
        };
        let not_x: Usable = |secret| if secret.is("x") { Err("it is x") } else { Ok(()) };
        write("a", "one\n");
        write("b", "two\r\n");
        let secrets = Secrets::read(vec![path("a"), path("b")], not_x).unwrap();
        let said = || {
            let known = secrets.current();
            let secrets: Vec<_> = known
                .secrets
                .iter()
                .map(|secret| secret.expose().to_owned())
                .collect();
            (secrets.join(" "), known.errors.len())
        };
        let expected = |said: &str, errors| (said.to_owned(), errors);
        assert_eq!(said(), expected("one two", 0));
        for (text, held) in [("six", "six two"), ("ten", "ten two"), ("one", "one two")] {
            write("a", text);
            assert_eq!(said(), expected(held, 0));
        }
        for text in ["", "\n", "x", "a\x07"] {
            write("a", text);
            assert_eq!(said(), expected("two", 1), "{text:?}");
        }
        fs::remove_file(path("a")).unwrap();
        fs::set_permissions(path("b"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(said(), expected("", 2));
        assert!(Secrets::read(vec![path("a")], not_x).is_err());
        write("a", "x");
        let refused = Secrets::read(vec![path("a")], not_x).unwrap_err().to_string();
        assert!(refused.ends_with("is not usable: it is x"), "{refused}");
    }

    #[test]
    fn what_could_not_be_read_is_read_again() {
        // It exists, has not changed lately, and cannot be read, since it is a directory.
        let root = AbsPath::resolve(Path::new("/"), Path::new("/")).unwrap();
        let known = look(&[root], |_| Ok(()));
        assert!(
            matches!(&known.errors[..], [Error::Read { .. }]),
            "{:?}",
            known.errors
        );
        assert_eq!(known.stamps, [None]);
    }
}
