//! Which clients may use a trigger, as `allow` says. Whether a name is an account is found out when a client asks (`peer`).

use std::fmt;

/// One rule of `allow`; who fits one of them may use the trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// This user, over a Unix socket.
    User(Account),
    /// Members of this group, over a Unix socket.
    Group(Account),
    /// Each client that sent the token of a listener that has one.
    Token,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// By name, as in /etc/passwd or /etc/group.
    Name(String),
    Number(u32),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Number(number) => number.fmt(f),
        }
    }
}
