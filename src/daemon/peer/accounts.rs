//! Whether the rules of `allow` match a peer.
//!
//! Names are looked up in /etc/passwd and /etc/group, by this process itself and for each request: a static binary has no name
//! service switch, and a user who leaves a group loses access at once. A name that is not there matches no peer.

use std::{cell::OnceCell, collections::BTreeSet, path::Path, sync::Mutex};

use super::{Credentials, Peer};
use crate::{
    base::{
        bounded::{self, LIST},
        mutex,
    },
    config::{Account, Allow},
};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The longest name of a user that is shown, in bytes; useradd(8) permits 32.
const MAX_NAME: usize = 64;

/// The users and groups of this machine.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Missing names that were logged.
    missed: Mutex<BTreeSet<(&'static str, String)>>,
}

impl Accounts {
    /// The accounts as they are now, for the checks of one request.
    pub fn look(&self) -> Look<'_> {
        Look {
            accounts: self,
            passwd: OnceCell::new(),
            group: OnceCell::new(),
        }
    }

    fn miss(&self, file: &'static str, name: &str) {
        let mut missed = mutex::lock(&self.missed);
        if missed.insert((file, name.to_owned())) {
            tracing::warn!("a rule names {name:?}, which is not in {file}: that rule fits no client");
        }
    }
}

/// The users and groups at one time; each file is read when it is first needed.
#[derive(Debug)]
pub struct Look<'a> {
    accounts: &'a Accounts,
    passwd: OnceCell<String>,
    group: OnceCell<String>,
}

impl Look<'_> {
    /// Whether `allow` permits `peer`; without rules, every client of the listener is permitted.
    pub fn may(&self, peer: &Peer, allow: Option<&[Allow]>) -> bool {
        allow.is_none_or(|rules| rules.iter().any(|rule| self.fits(peer, rule)))
    }

    /// `peer` for logs and answers, with the name of its user: `www-data uid=33 gid=33 pid=7`.
    pub fn named(&self, peer: &Peer) -> String {
        let name = match peer {
            Peer::Unix(peer) => self.user(peer.uid),
            Peer::Tcp { .. } | Peer::Unknown => None,
        };
        match name {
            Some(name) => format!("{name} {peer}"),
            None => peer.to_string(),
        }
    }

    /// The first name of the user `uid`, if it fits into a line with other fields.
    pub fn user(&self, uid: u32) -> Option<&str> {
        let ends_the_name = |c: char| c.is_control() || c.is_whitespace() || c == '=';
        let mut lines = self.passwd();
        let user = lines.find(|fields| fields.get(2).is_some_and(|number| number.parse() == Ok(uid)))?;
        let is_one = |name: &&str| (1..=MAX_NAME).contains(&name.len()) && !name.contains(ends_the_name);
        user.first().copied().filter(is_one)
    }

    fn fits(&self, peer: &Peer, rule: &Allow) -> bool {
        match (rule, peer) {
            (Allow::Token, Peer::Tcp { token, .. }) => *token,
            (Allow::User(user), Peer::Unix(peer)) => self.uid(user) == Some(peer.uid),
            (Allow::Group(group), Peer::Unix(peer)) => {
                self.gid(group).is_some_and(|gid| self.is_in(peer, gid))
            }
            (Allow::Token | Allow::User(_) | Allow::Group(_), _) => false,
        }
    }

    /// Whether the peer's process is in the group, or its user is by the files.
    fn is_in(&self, peer: &Credentials, gid: u32) -> bool {
        if peer.gid == gid || peer.groups.contains(&gid) {
            return true;
        }
        let number = gid.to_string();
        let mut lines = self
            .passwd()
            .filter(|user| user.get(2).is_some_and(|uid| uid.parse() == Ok(peer.uid)));
        lines.any(|user| {
            user.get(3) == Some(&number.as_str())
                || self.group().any(|group| {
                    group.get(2) == Some(&number.as_str())
                        && group
                            .get(3)
                            .is_some_and(|members| members.split(',').any(|member| member == user[0]))
                })
        })
    }

    fn uid(&self, user: &Account) -> Option<u32> {
        self.number(user, PASSWD, self.passwd())
    }

    fn gid(&self, group: &Account) -> Option<u32> {
        self.number(group, GROUP, self.group())
    }

    /// The number of `account`, which is the third field in both files.
    fn number<'l>(
        &self,
        account: &Account,
        file: &'static str,
        mut lines: impl Iterator<Item = Vec<&'l str>>,
    ) -> Option<u32> {
        let name = match account {
            Account::Number(number) => return Some(*number),
            Account::Name(name) => name,
        };
        let line = lines.find(|fields| fields.first() == Some(&name.as_str()));
        let number = line.and_then(|fields| fields.get(2)?.parse().ok());
        if number.is_none() {
            self.accounts.miss(file, name);
        }
        number
    }

    fn passwd(&self) -> impl Iterator<Item = Vec<&str>> {
        fields(self.passwd.get_or_init(|| read(PASSWD)))
    }

    fn group(&self) -> impl Iterator<Item = Vec<&str>> {
        fields(self.group.get_or_init(|| read(GROUP)))
    }
}

/// A file that cannot be read counts as empty.
fn read(file: &str) -> String {
    let bytes = bounded::read(Path::new(file), LIST).unwrap_or_default();
    // The comment field may hold any bytes.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The fields of the lines of passwd(5) or group(5).
fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/:\nann:x:1000:100:Ann, \u{fffd}:/home/ann:/bin/sh\n\
                         ann2:x:1000:100::/:\nbroken:x:many:0::/:\nshort\n\nwww:x:99:99::/:\n";
    const GROUPS: &str =
        "root:x:0:\nwww:x:33:\nusers:x:100:\ndeploy:x:50:bob,ann2\nadmin:x:60:an,anna\nempty\nnone:x::ann\n";

    fn look(accounts: &Accounts) -> Look<'_> {
        Look {
            accounts,
            passwd: OnceCell::from(USERS.to_owned()),
            group: OnceCell::from(GROUPS.to_owned()),
        }
    }

    #[test]
    fn users_by_name() {
        let accounts = Accounts::default();
        let long = "x".repeat(MAX_NAME + 1);
        let more =
            format!("uid=0:x:7:7::/:\na b:x:8:8::/:\n:x:9:9::/:\n{long}:x:10:10::/:\nj\u{9b}:x:11:11::/:\n");
        let look = Look {
            accounts: &accounts,
            passwd: OnceCell::from(format!("{USERS}{more}")),
            group: OnceCell::new(),
        };
        assert_eq!(look.named(&unix(33, 3, &[])), "www uid=33 gid=3 pid=1");
        // The first that has the number, as everywhere.
        assert_eq!(look.user(1000), Some("ann"));
        for uid in [7, 8, 9, 10, 11, 4242] {
            assert_eq!(look.named(&unix(uid, 3, &[])), format!("uid={uid} gid=3 pid=1"));
        }
        let tcp = Peer::of_tcp(([127, 0, 0, 1], 9).into());
        assert_eq!(look.named(&tcp), "127.0.0.1:9");
        assert_eq!(look.named(&Peer::Unknown), "unix");
    }

    fn unix(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer::Unix(Credentials {
            uid,
            gid,
            pid: 1,
            groups: groups.into(),
        })
    }

    fn user(name: &str) -> Allow {
        Allow::User(Account::Name(name.into()))
    }

    fn group(name: &str) -> Allow {
        Allow::Group(Account::Name(name.into()))
    }

    #[test]
    fn rules_and_peers() {
        let accounts = Accounts::default();
        let look = look(&accounts);
        let mut tcp = Peer::of_tcp(([127, 0, 0, 1], 9).into());
        let stranger = tcp.clone();
        tcp.has_sent_token();
        let ann = unix(1000, 100, &[]);
        let number = |number| Allow::User(Account::Number(number));
        for (rule, peer, fits) in [
            (user("www"), unix(33, 7, &[]), true),
            (user("www"), unix(99, 7, &[]), false),
            (user("www"), unix(0, 0, &[]), false),
            (user("broken"), unix(0, 0, &[]), false),
            (user("short"), unix(0, 0, &[]), false),
            (user(""), unix(0, 0, &[]), false),
            (user("nobody at all"), unix(0, 0, &[]), false),
            (number(4242), unix(4242, 0, &[]), true),
            (number(0), unix(1, 0, &[0]), false),
            // By the process's own groups, first and others.
            (group("deploy"), unix(7, 50, &[]), true),
            (group("deploy"), unix(7, 7, &[8, 50]), true),
            (group("deploy"), unix(50, 7, &[8]), false),
            // By the files: under another name of the same user, and by the group that passwd(5) gives.
            (group("deploy"), ann.clone(), true),
            (group("users"), unix(1000, 7, &[]), true),
            (Allow::Group(Account::Number(50)), ann.clone(), true),
            (group("admin"), ann.clone(), false),
            (group("none"), ann.clone(), false),
            (group("empty"), ann.clone(), false),
            (group("ann"), ann.clone(), false),
            // The other kind of peer.
            (Allow::Token, tcp.clone(), true),
            (Allow::Token, stranger, false),
            (Allow::Token, ann, false),
            (number(0), tcp.clone(), false),
            (group("root"), tcp, false),
            (number(0), Peer::Unknown, false),
        ] {
            assert_eq!(
                look.may(&peer, Some(std::slice::from_ref(&rule))),
                fits,
                "{rule:?} {peer:?}"
            );
            assert!(look.may(&peer, None));
            assert!(!look.may(&peer, Some(&[])));
        }
        let missed = accounts.missed.lock().unwrap();
        let missed: Vec<_> = missed.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            missed,
            ["ann", "empty", "none", "", "broken", "nobody at all", "short"]
        );
    }

    #[test]
    fn one_rule_that_fits_is_enough() {
        let accounts = Accounts::default();
        let look = look(&accounts);
        let rules = [user("www"), group("deploy")];
        assert!(look.may(&unix(33, 7, &[]), Some(&rules)));
        assert!(look.may(&unix(7, 50, &[]), Some(&rules)));
        assert!(!look.may(&unix(7, 7, &[]), Some(&rules)));
    }
}
