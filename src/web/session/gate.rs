//! The users who may sign in, with the files of their passwords, and their sessions.
//!
//! A changed password, or an emptied file, counts at once, and ends the user's sessions. Reading the files blocks.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Error, Session, Sessions, attempts::Attempts, fingerprint, is_known};
use crate::{base::name::AbsPath, web::secret::Secrets};

/// Users, sessions and attempts.
#[derive(Debug)]
pub struct Gate {
    users: BTreeMap<String, Secrets>,
    sessions: Sessions,
    attempts: Attempts,
}

/// The cookies of a user who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The cookie of the session.
    pub session: String,
    /// The cookie by which the browser is known at the next sign-in.
    pub known: String,
}

/// Why a sign-in is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The name or the password is wrong; which of them, the user is not told.
    Wrong,
    /// There were too many attempts; the next one is possible after this time.
    TooMany(Duration),
}

impl Gate {
    /// A gate for `users` with the files of their passwords; without users, every visitor is let in.
    pub fn new(users: &BTreeMap<String, AbsPath>) -> Result<Self, Error> {
        let read = |file: &AbsPath| Secrets::read(vec![file.clone()], |_| Ok(()));
        let users = users.iter().map(|(name, file)| Ok((name.clone(), read(file)?)));
        Ok(Self {
            users: users.collect::<Result<_, Error>>()?,
            sessions: Sessions::new()?,
            attempts: Attempts::default(),
        })
    }

    /// Whether the page is open without a sign-in.
    pub fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    /// The session of one of `cookies`.
    pub fn who(&self, cookies: &[String]) -> Option<Session> {
        if self.is_open() {
            return Some(self.sessions.nobody());
        }
        let still = |user: &str| {
            let known = self.users.get(user)?.current();
            known.secrets.first().map(|secret| fingerprint(secret.expose()))
        };
        let now = Instant::now();
        cookies
            .iter()
            .find_map(|cookie| self.sessions.find(cookie, now, still))
    }

    /// Sign in from the address `from`, with a browser that has sent the cookies `known`.
    pub fn enter(
        &self,
        user: &str,
        password: &str,
        from: Option<IpAddr>,
        known: &[String],
    ) -> Result<Entered, Refused> {
        let now = Instant::now();
        let has_own = self.knows(user, known) && self.attempts.take_known(user, now);
        if !has_own {
            self.attempts.take(from, now).map_err(Refused::TooMany)?;
        }
        // All users are compared, so that the time does not reveal which names exist.
        let mut known = false;
        for (name, secrets) in &self.users {
            let is_right = secrets.current().secrets.iter().any(|secret| secret.is(password));
            known |= is_right & (name == user);
        }
        if !known {
            return Err(Refused::Wrong);
        }
        if has_own {
            self.attempts.give_back_known(user)
        } else {
            self.attempts.give_back(from)
        }
        let begun = self.sessions.begin(user, password, now).and_then(|session| {
            let known = self.sessions.known(user, password)?;
            Ok(Entered { session, known })
        });
        begun.map_err(|err| {
            tracing::warn!("cannot sign in {user}: {err}");
            Refused::Wrong
        })
    }

    /// Whether one of `cookies` was set after a sign-in as `user`. All users are compared, as above.
    fn knows(&self, user: &str, cookies: &[String]) -> bool {
        let mut knows = false;
        if cookies.is_empty() {
            return knows;
        }
        for (name, secrets) in &self.users {
            for secret in secrets.current().secrets.iter() {
                let is_known = cookies
                    .iter()
                    .any(|cookie| is_known(cookie, name, secret.expose()));
                knows |= is_known & (name == user);
            }
        }
        knows
    }

    /// Sign out.
    pub fn leave(&self, cookies: &[String]) {
        for cookie in cookies {
            self.sessions.end(cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A gate for admin, and what writes the password.
    fn gate(dir: &tempfile::TempDir) -> (Gate, impl Fn(&str)) {
        let file = dir.path().join("password");
        let path = AbsPath::resolve(dir.path(), "password".as_ref()).unwrap();
        let write = move |text: &str| {
            std::fs::remove_file(&file).ok();
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("s3cret\n");
        (
            Gate::new(&BTreeMap::from([("admin".into(), path)])).unwrap(),
            write,
        )
    }

    #[test]
    fn a_password_that_was_changed_ends_its_sessions() {
        let dir = crate::machine::tempdir().unwrap();
        let (gate, write) = gate(&dir);
        for (user, password) in [("admin", "S3cret"), ("admin", ""), ("root", "s3cret"), ("", "")] {
            assert_eq!(
                gate.enter(user, password, None, &[]),
                Err(Refused::Wrong),
                "{user} {password}"
            );
        }
        let cookie = [gate.enter("admin", "s3cret", None, &[]).unwrap().session];
        assert!(gate.who(&cookie).is_some() && gate.who(&[]).is_none());
        write("another\n");
        assert!(gate.who(&cookie).is_none());
        // An empty password is not accepted.
        write("\n");
        assert_eq!(gate.enter("admin", "", None, &[]), Err(Refused::Wrong));
    }

    #[test]
    fn attempts_end() {
        let dir = crate::machine::tempdir().unwrap();
        let (gate, _write) = gate(&dir);
        let from = Some("192.0.2.1".parse().unwrap());
        let refused = std::iter::repeat_with(|| gate.enter("admin", "x", from, &[])).take(20);
        assert_eq!(
            refused.filter(|refused| *refused == Err(Refused::Wrong)).count(),
            10
        );
        assert_eq!(gate.enter("admin", "x", None, &[]), Err(Refused::Wrong));
    }

    #[test]
    fn strangers_take_no_attempts_from_a_browser_that_is_known() {
        let dir = crate::machine::tempdir().unwrap();
        let (gate, write) = gate(&dir);
        let from = Some("192.0.2.1".parse().unwrap());
        let known = [gate.enter("admin", "s3cret", from, &[]).unwrap().known];
        let is_refused = |password, known: &[String]| match gate.enter("admin", password, from, known) {
            Err(Refused::TooMany(_)) => true,
            Err(Refused::Wrong) => false,
            Ok(_) => panic!("{password} is right"),
        };
        while !is_refused("x", &[]) {}
        assert!(is_refused("x", &["0".repeat(128)]));
        assert!(gate.enter("admin", "s3cret", from, &known).is_ok());
        // It has as many as an address has, and no other name's.
        let tried = std::iter::repeat_with(|| is_refused("x", &known)).take(20);
        assert_eq!(tried.filter(|is_refused| !is_refused).count(), 10);
        assert!(matches!(
            gate.enter("root", "x", from, &known),
            Err(Refused::TooMany(_))
        ));
        // It ends with the password.
        write("another\n");
        assert!(is_refused("another-one", &known));
    }
}
