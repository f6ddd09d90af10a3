//! The name of a release: when it was made, and of which commit.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use gix::ObjectId;
use serde::{Deserialize, Serialize};

/// Digits of the commit in a name.
const COMMIT: usize = 7;
/// `20261125T201500Z`, and a hyphen.
const TIME: usize = 17;
const SECOND: Duration = Duration::from_secs(1);
/// How far the names of releases may be ahead of the clock.
const AHEAD: Duration = Duration::from_secs(3600);

/// `20261125T201500Z-5d6e7f8`. They sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// A text is not the name of a release.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a release's name looks like 20261125T201500Z-5d6e7f8: a time, and the beginning of a commit's id")]
pub struct Invalid;

impl Id {
    /// The name of a release of `commit` that is made at `time`. It is later than `last` and not `taken`, so its time may be some
    /// seconds ahead; but if the clock was set back by more than `AHEAD`, it is not later than `last`.
    pub fn new(
        time: SystemTime,
        commit: ObjectId,
        last: Option<&Self>,
        taken: impl Fn(&Self) -> bool,
    ) -> Self {
        let last = last.and_then(Self::time).filter(|last| *last < time + AHEAD);
        let mut time = last.map_or(time, |last| time.max(last + SECOND));
        loop {
            let second = humantime::format_rfc3339_seconds(time).to_string();
            let second: String = second.chars().filter(|c| !matches!(c, '-' | ':')).collect();
            let id = Self(format!("{second}-{}", commit.to_hex_with_len(COMMIT)));
            if !taken(&id) {
                return id;
            }
            time += SECOND;
        }
    }

    /// The time in its name.
    fn time(&self) -> Option<SystemTime> {
        let part = |from: usize, to: usize| &self.0[from..to];
        let [year, month, day] = [part(0, 4), part(4, 6), part(6, 8)];
        let [hour, minute, second] = [part(9, 11), part(11, 13), part(13, 15)];
        let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
        humantime::parse_rfc3339(&text).ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The beginning of the commit's id.
    pub fn commit(&self) -> &str {
        &self.0[TIME..]
    }
}

impl TryFrom<String> for Id {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let bytes = text.as_bytes();
        let is_right = bytes.len() == TIME + COMMIT
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'T',
                15 => *byte == b'Z',
                16 => *byte == b'-',
                at if at < TIME => byte.is_ascii_digit(),
                _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
            });
        if is_right { Ok(Self(text)) } else { Err(Invalid) }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_637_700);
        let commit = ObjectId::from_hex(b"5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80").unwrap();
        let id = Id::new(time, commit, None, |_| false);
        assert_eq!(id.as_str(), "20261125T201500Z-5d6e7f8");
        assert_eq!(id.commit(), "5d6e7f8");
        let next = Id::new(time, commit, None, |other| *other == id);
        assert_eq!(next.as_str(), "20261125T201501Z-5d6e7f8");
        assert!(next > id);
        let later = Id::new(time, commit, Some(&next), |_| false);
        assert_eq!(later.as_str(), "20261125T201502Z-5d6e7f8");
        let day = Duration::from_secs(86_400);
        assert_eq!(
            Id::new(time - day, commit, Some(&next), |_| false).as_str(),
            "20261124T201500Z-5d6e7f8"
        );
        assert_eq!(Id::try_from(id.to_string()), Ok(id));
        for wrong in [
            "",
            ".",
            "..",
            "20261125T201500Z-5d6e7f",
            "20261125T201500Z-5d6e7fg",
            "20261125t201500Z-5d6e7f8",
            "2026112/T201500Z-5d6e7f8",
            "20261125T201500Z-5D6E7F8",
            "20261125T201500Z-5d6e7f80",
        ] {
            assert_eq!(Id::try_from(wrong.to_owned()), Err(Invalid), "{wrong}");
        }
    }
}
