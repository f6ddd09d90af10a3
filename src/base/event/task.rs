//! What a run is to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::name::{Earlier, Invalid};

/// What a run is to do. In JSON it is as it was said on the socket, without the trigger's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Task {
    /// Deploy the newest commit.
    #[default]
    Update,
    Rollback {
        /// The commit or release to go back to; not there: the last good one before.
        to: Option<Earlier>,
    },
    /// Deploy the newest commit, even if it was rolled back.
    Retry,
    /// Deploy the newest commit, and run all hooks again, whatever has changed.
    Hooks,
}

/// What a peer may ask for of a trigger, in the word of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum May {
    Trigger,
    Rollback,
    /// Deploy a commit that was rolled back.
    Retry,
    /// Run all hooks again.
    Hooks,
    Pause,
    /// What a later version permits.
    #[serde(other)]
    Other,
}

impl Task {
    /// Whether it is what a trigger asks for.
    pub fn is_update(&self) -> bool {
        *self == Self::Update
    }

    pub fn is_rollback(&self) -> bool {
        matches!(self, Self::Rollback { .. })
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Rollback { .. } => "rollback",
            Self::Retry => "retry",
            Self::Hooks => "hooks",
        }
    }

    /// The task before the name of the client in a list: empty for an update, which most runs are.
    pub fn shown(&self) -> String {
        match self {
            Self::Update => String::new(),
            task => format!("{task} "),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Rollback { to: Some(to) } => write!(f, " {to}"),
            _ => Ok(()),
        }
    }
}

impl From<Task> for String {
    fn from(task: Task) -> Self {
        task.to_string()
    }
}

impl TryFrom<String> for Task {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("rollback", "") => Ok(Self::Rollback { to: None }),
            ("rollback", to) => Ok(Self::Rollback {
                to: Some(Earlier::parse(to)?),
            }),
            ("retry", _) => Ok(Self::Retry),
            ("hooks", _) => Ok(Self::Hooks),
            // What a version to come may know is no reason to pass over a run.
            _ => Ok(Self::Update),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_survive_json() {
        let to = Some(Earlier::parse("5d6e7f8").unwrap());
        for (task, text) in [
            (Task::Update, "\"update\""),
            (Task::Rollback { to: None }, "\"rollback\""),
            (Task::Rollback { to }, "\"rollback 5d6e7f8\""),
            (Task::Retry, "\"retry\""),
            (Task::Hooks, "\"hooks\""),
        ] {
            assert_eq!(serde_json::to_string(&task).unwrap(), text);
            assert_eq!(serde_json::from_str::<Task>(text).unwrap(), task);
        }
        assert!(serde_json::from_str::<Task>("\"rollback ../x\"").is_err());
    }
}
