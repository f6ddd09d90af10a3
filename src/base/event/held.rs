//! A commit that was rolled back, and is not deployed again by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::past::{age, now};
use crate::base::name::short;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub commit: String,
    pub since: u64,
    pub kind: Why,
    /// Why the commit was rolled back; or who wanted it.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    Hook,
    /// What the commit serves did not get well.
    Unhealthy,
    #[serde(other)]
    ByHand,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Unhealthy => "unhealthy",
            Self::ByHand => "by-hand",
        }
    }
}

impl Held {
    /// `2 h`: for how long the commit has been held, in its largest unit.
    pub fn age(&self) -> String {
        let secs = age(self.since, now()).unwrap_or_default().as_secs();
        match secs {
            0..60 => format!("{secs} s"),
            60..3600 => format!("{} min", secs / 60),
            3600..86_400 => format!("{} h", secs / 3600),
            _ => format!("{} d", secs / 86_400),
        }
    }

    pub fn why(&self) -> String {
        match self.kind {
            Why::ByHand => format!("by {}", self.message),
            kind => format!("{}: {}", kind.as_str(), self.message),
        }
    }
}

/// `5d6e7f8 was rolled back 2 h ago: hook: …`
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.kind == Why::ByHand { "" } else { ":" };
        write!(
            f,
            "{} was rolled back {} ago{colon} {}",
            short(&self.commit),
            self.age(),
            self.why()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (ago, said) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (7_300, "2 h"),
            (200_000, "2 d"),
        ] {
            let held = Held {
                commit: "5d6e7f8a9b".into(),
                since: now() - ago,
                kind: Why::Hook,
                message: "the hook x ended with signal 9".into(),
            };
            // The clock goes on, but not by a minute.
            if ago == 0 || ago >= 3600 {
                assert!(held.to_string().starts_with("5d6e7f8 was rolled back "), "{held}");
                assert!(ago == 0 || held.age() == said, "{held}");
            }
        }
        let text = r#"{"commit":"5d6e","since":7,"kind":"by-hand","message":"uid=0"}"#;
        let held: Held = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&held).unwrap(), text);
        let later = text.replace("by-hand", "of a version to come");
        assert_eq!(serde_json::from_str::<Held>(&later).unwrap(), held);
    }
}
