//! What a client names to go back to.

use std::fmt;

use super::Invalid;

/// Digits of a commit's id that name it at least, as with git.
const MIN_DIGITS: usize = 4;
/// Digits of a whole id, of SHA-256.
const MAX_DIGITS: usize = 64;

/// A commit, by the first digits of its id or all of them; or a release, such as `20261125T201500Z-5d6e7f8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier(String);

impl Earlier {
    /// Check `text`. Whether there is such a commit or release, a run finds out.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_release = text.contains('-') && text.len() <= MAX_DIGITS;
        let is_right = |c: char| c.is_ascii_hexdigit() || (is_release && "TZ-".contains(c));
        match text {
            "" => Err(Invalid::new("it is empty")),
            text if !text.starts_with(|c: char| c.is_ascii_hexdigit()) || !text.chars().all(is_right) => {
                Err(Invalid::new(
                    "a commit consists of the digits 0 to 9 and a to f; a release is called as 20261125T201500Z-5d6e7f8 is",
                ))
            }
            text if text.len() < MIN_DIGITS || text.len() > MAX_DIGITS => Err(Invalid::new(format!(
                "a commit is named by {MIN_DIGITS} digits at least, and {MAX_DIGITS} at most"
            ))),
            text if is_release => Ok(Self(text.into())),
            text => Ok(Self(text.to_ascii_lowercase())),
        }
    }

    /// The first digits of a commit's id, or all; nothing if it is a release.
    pub fn commit(&self) -> Option<&str> {
        (!self.0.contains('-')).then_some(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_and_releases() {
        let long = "5d6e7f80".repeat(8);
        for (text, commit) in [
            ("5d6e", Some("5d6e")),
            ("5D6E7f8", Some("5d6e7f8")),
            (long.as_str(), Some(long.as_str())),
            ("20261125T201500Z-5d6e7f8", None),
        ] {
            assert_eq!(Earlier::parse(text).unwrap().commit(), commit, "{text}");
        }
        for text in [
            "",
            "5d6",
            "main",
            "HEAD",
            "-5d6e",
            "..",
            "5d6e/..",
            "5d6e\n",
            "T-5d6e",
            "5d6eT7f8",
            &(long.clone() + "0"),
        ] {
            assert!(Earlier::parse(text).is_err(), "{text:?}");
        }
    }
}
