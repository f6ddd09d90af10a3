//! Names that strangers or files supply, checked once and trusted afterwards.
//!
//! Every type here can only be made by a constructor that checks; the rest of the program
//! takes these types and never looks again. This module knows no I/O and no other module.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

mod earlier;
mod note;
mod url;
pub use earlier::Earlier;
pub use note::Note;
pub use url::{RepoUrl, Scheme};

/// Why a name was not accepted; the text is a half sentence that fits after "… is not a valid …: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// The name of a trigger: 1 to 100 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit,
/// and none of the words that the text protocol uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TriggerName(String);

impl TriggerName {
    /// Words of the text protocol, which cannot be names.
    pub const RESERVED: [&str; 6] = ["trigger", "status", "ping", "token", "log", "attach"];
    /// Words that the text protocol has got since: a trigger that bears one is asked for with `trigger` before its name.
    pub const LATER_WORDS: [&str; 5] = ["rollback", "retry", "metrics", "pause", "resume"];
    pub const MAX_BYTES: usize = 100;

    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        if name.is_empty() {
            return Err(Invalid::new("it is empty"));
        }
        if name.len() > Self::MAX_BYTES {
            return Err(Invalid::new(format!(
                "it is longer than {} bytes",
                Self::MAX_BYTES
            )));
        }
        if let Some(bad) = name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)))
        {
            return Err(Invalid::new(format!(
                "it contains {bad:?}; letters, digits, '.', '_' and '-' are allowed"
            )));
        }
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(Invalid::new("it must begin with a letter or a digit"));
        }
        if Self::RESERVED.contains(&name.as_str()) {
            return Err(Invalid::new("it is a word of the socket's protocol"));
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A full reference name, such as `refs/heads/main`, valid by `git check-ref-format`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(String);

impl RefName {
    /// The branch `name`, as a person writes it: `main`, or in full `refs/heads/main`.
    pub fn branch(name: &str) -> Result<Self, Invalid> {
        Self::under("refs/heads/", name)
    }

    /// The tag `name`: `v1.2`, or in full `refs/tags/v1.2`.
    pub fn tag(name: &str) -> Result<Self, Invalid> {
        Self::under("refs/tags/", name)
    }

    fn under(prefix: &str, name: &str) -> Result<Self, Invalid> {
        let short = name.strip_prefix(prefix).unwrap_or(name);
        if short.starts_with('-') {
            return Err(Invalid::new("it begins with '-'"));
        }
        if short == "HEAD" {
            return Err(Invalid::new("HEAD is not a name for a branch or tag"));
        }
        no_control(short)?;
        let full = format!("{prefix}{short}");
        gix::validate::reference::name(full.as_str().into())
            .map_err(|err| Invalid::new(format!("git does not allow it as a ref name ({err})")))?;
        Ok(Self(full))
    }

    /// The full name, `refs/heads/main`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without `refs/heads/` or `refs/tags/`.
    pub fn short(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or(&self.0)
    }
}

/// git refuses those of ASCII only; but terminals obey U+009B as well, and a remote's HEAD may be on any branch.
fn no_control(name: &str) -> Result<(), Invalid> {
    if name.contains(char::is_control) {
        Err(Invalid::new("it contains a control character"))
    } else {
        Ok(())
    }
}

/// The name of a remote: what stands below `refs/remotes/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteName(String);

impl RemoteName {
    /// Check `name` by git's rule: `refs/remotes/NAME/x` must be a valid ref name.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        if name.is_empty() || name.starts_with('-') || name.starts_with('/') || name.ends_with('/') {
            return Err(Invalid::new(
                "it is empty, or begins with '-' or '/', or ends with '/'",
            ));
        }
        no_control(name)?;
        gix::validate::reference::name(format!("refs/remotes/{name}/x").as_str().into())
            .map_err(|err| Invalid::new(format!("git does not allow it as a remote's name ({err})")))?;
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What git calls the remote that it clones from.
impl Default for RemoteName {
    fn default() -> Self {
        Self("origin".into())
    }
}

/// An absolute path without `.` and `..`; symlinks in it are not resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsPath(PathBuf);

impl AbsPath {
    /// `path`, taken relative to the absolute `base` if it is not absolute itself.
    ///
    /// `..` is resolved by text, as `realpath --no-symlinks` does.
    pub fn resolve(base: &Path, path: &Path) -> Result<Self, Invalid> {
        if path.as_os_str().is_empty() {
            return Err(Invalid::new("it is empty"));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(Invalid::new("it contains a NUL byte"));
        }
        let mut out = PathBuf::from("/");
        for component in base.join(path).components() {
            match component {
                Component::Normal(name) => out.push(name),
                Component::ParentDir => {
                    out.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(Self(out))
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// The id of a run, unique on this host: milliseconds since the epoch and a counter, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(String);

impl RunId {
    pub const MAX_BYTES: usize = 32;

    /// Check `id`, as a client says it.
    pub fn parse(id: &str) -> Result<Self, Invalid> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match id {
            "" => Err(Invalid::new("it is empty")),
            id if id.len() > Self::MAX_BYTES => Err(Invalid::new(format!(
                "it is longer than {} digits",
                Self::MAX_BYTES
            ))),
            id if !id.bytes().all(is_digit) => {
                Err(Invalid::new("it consists of the digits 0 to 9 and a to f"))
            }
            id => Ok(Self(id.into())),
        }
    }

    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU16, Ordering};
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        Self(format!(
            "{ms:011x}{:03x}",
            COUNT.fetch_add(1, Ordering::Relaxed) & 0xfff
        ))
    }

    /// When the run was accepted, in seconds since the epoch, if the id has the form of [`Self::new`].
    pub fn accepted(&self) -> Option<u64> {
        let digits = self.0.get(..11).filter(|_| self.0.len() == 14)?;
        Some(u64::from_str_radix(digits, 16).ok()? / 1000)
    }

    /// What stands for a run where there is none, in answers that are not about a run.
    pub fn none() -> Self {
        Self("-".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! text {
    ($($name:ty),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}
text!(TriggerName, RefName, RemoteName, RunId);

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl From<TriggerName> for String {
    fn from(name: TriggerName) -> Self {
        name.0
    }
}

/// The id in a record, where there may be none.
impl TryFrom<String> for RunId {
    type Error = Invalid;

    fn try_from(id: String) -> Result<Self, Invalid> {
        match id.as_str() {
            "-" => Ok(Self::none()),
            id => Self::parse(id),
        }
    }
}

impl TryFrom<String> for TriggerName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl std::borrow::Borrow<str> for TriggerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The first seven digits of an object id.
pub fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_names() {
        for good in ["site", "a", "0", "my.site_1-x", &"x".repeat(100)] {
            assert!(TriggerName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".a",
            "-a",
            "_a",
            "a b",
            "a/b",
            "ä",
            "a\0",
            "a\n",
            "ping",
            "status",
            &"x".repeat(101),
        ] {
            assert!(TriggerName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn run_ids() {
        let new = RunId::new();
        assert_eq!(RunId::parse(new.as_str()), Ok(new));
        assert!(RunId::parse(&"f".repeat(32)).is_ok());
        let long = "0".repeat(33);
        for bad in [
            "",
            "-",
            "../0",
            "0/1",
            "0198C0",
            "g",
            " 0",
            "0\n",
            "ä",
            long.as_str(),
        ] {
            assert!(RunId::parse(bad).is_err(), "{bad:?}");
        }
        for (text, expected) in [("-", true), ("0af", true), ("", false), ("..", false)] {
            assert_eq!(RunId::try_from(text.to_owned()).is_ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn ref_names() {
        assert_eq!(RefName::branch("main").unwrap().as_str(), "refs/heads/main");
        assert_eq!(RefName::branch("refs/heads/a/b").unwrap().short(), "a/b");
        assert_eq!(RefName::tag("v1").unwrap().as_str(), "refs/tags/v1");
        for bad in [
            "",
            "a..b",
            "a b",
            "-x",
            "a~1",
            "x.lock",
            "a/",
            "/a",
            "HEAD",
            "a\0b",
            "@{u}",
            "a\u{9b}2J",
        ] {
            assert!(RefName::branch(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_resolved_by_text() {
        let resolve =
            |path: &str| AbsPath::resolve(Path::new("/etc/g"), Path::new(path)).map(|p| p.to_string());
        assert_eq!(resolve("x/./y/../z").as_deref(), Ok("/etc/g/x/z"));
        assert_eq!(resolve("/srv//site/").as_deref(), Ok("/srv/site"));
        assert_eq!(resolve("../../../..").as_deref(), Ok("/"));
        assert!(resolve("").is_err());
        assert!(resolve("a\0b").is_err());
    }
}
