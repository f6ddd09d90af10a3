//! Secrets: read from their file at each use, compared in constant time, masked in `Debug`, zeroized when dropped.

use std::{io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::base::{
    bounded::Given,
    fault::{Blame, Kind},
    name::AbsPath,
};

/// A password or token.
pub struct Secret(Zeroizing<String>);

/// A secret's file could not be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("cannot read the secret in {path}: {source}")]
    #[diagnostic(help("it must exist and be readable for the user that gitsocket runs as"))]
    Read { path: AbsPath, source: std::io::Error },
    #[error("the secret in {path} can be read by others (its mode is {mode:04o})")]
    #[diagnostic(help("type: chmod {} {path}", if *owned { "600" } else { "o=" }))]
    Exposed {
        path: AbsPath,
        mode: u32,
        /// Whether it is for one user alone.
        owned: bool,
    },
    #[error("the secret in {path} is not usable: {reason}")]
    #[diagnostic(help("write the secret alone on the first line"))]
    Content { path: AbsPath, reason: &'static str },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

const MAX_BYTES: u64 = 64 * 1024;

impl Secret {
    /// Read the first line of `path`, as [`read`] does.
    pub fn read(path: &AbsPath) -> Result<Self, Error> {
        Self::on_first_line(path, &read(path)?)
    }

    /// Read the first line of the standard input, and wait for no more than its end.
    pub fn read_stdin() -> Result<Self, Error> {
        let path = Path::new("/dev/stdin");
        let path = AbsPath::resolve(path, path).expect("it is not empty and holds no NUL");
        let failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        let mut input = Given::stdin().map_err(failed)?;
        let mut bytes = Zeroizing::new(vec![0; MAX_BYTES as usize]);
        let mut end = 0;
        while end < bytes.len() && !bytes[..end].contains(&b'\n') {
            match input.read(&mut bytes[end..]).map_err(failed)? {
                0 => break,
                count => end += count,
            }
        }
        Self::on_first_line(&path, &bytes[..end])
    }

    /// What is on the first line of `bytes`, which were read from `path`.
    fn on_first_line(path: &AbsPath, bytes: &[u8]) -> Result<Self, Error> {
        let content = |reason| Error::Content {
            path: path.clone(),
            reason,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| content("it is not UTF-8"))?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(content("its first line is empty"));
        }
        if line.starts_with('\u{feff}') {
            return Err(content(
                "it begins with a byte order mark, which an editor has added: save it as UTF-8 without one",
            ));
        }
        if line.chars().any(char::is_control) {
            return Err(content("it contains control characters"));
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Whether `said` is the secret, in a time that tells nothing of it. Digests have one length, so that not even
    /// the secret's length shows: `ct_eq` returns at once for slices of different lengths.
    pub fn is(&self, said: &str) -> bool {
        let [ours, theirs] = [self.expose(), said].map(fingerprint);
        bool::from(ours.as_ref().ct_eq(theirs.as_ref()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn fingerprint(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes())
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Read all of the secret file `path`, up to 64 KiB.
///
/// The file is refused if others can read it. As OpenSSH does, the group counts among the others
/// where the file is our own; a file of root's may be shared with the daemon's user through its group, and is then for
/// that group whatever the reader, root too.
pub fn read(path: &AbsPath) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let file = Given::open(path.as_path()).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let is_shared = meta.uid() == 0 && meta.gid() != 0;
    let owned = meta.uid() == rustix::process::geteuid().as_raw() && !is_shared;
    if meta.mode() & if owned { 0o077 } else { 0o007 } != 0 {
        return Err(Error::Exposed {
            path: path.clone(),
            mode: meta.mode() & 0o7777,
            owned,
        });
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 1));
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_itself_only() {
        let secret = Secret(Zeroizing::new("s3cret".into()));
        assert!(secret.is("s3cret"));
        for wrong in [
            "",
            "s",
            "s3cre",
            "s3crets",
            "S3cret",
            "s3creu",
            "\0",
            "s3cret\0",
            &"s3cret".repeat(1000),
        ] {
            assert!(!secret.is(wrong), "{wrong:?}");
            // What is compared has one length, so it is compared to its end whatever the lengths of the two.
            assert_eq!(
                fingerprint(wrong).as_ref().len(),
                fingerprint("s3cret").as_ref().len()
            );
        }
    }
}
