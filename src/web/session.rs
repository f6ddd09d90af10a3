//! Sign-ins: sessions in memory, their cookies, and the limits for attempts.
//!
//! A session is found by the digest of its cookie, so that neither memory nor timing reveals a cookie. It ends after some hours,
//! with this process, and when its user's password is changed.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use subtle::ConstantTimeEq as _;

use super::secret;
use crate::base::{mutex, words::hex};

pub mod attempts;
pub mod gate;

/// The maximum number of sessions; beyond that, the oldest one ends. Only users with a password can begin one.
const MAX_SESSIONS: usize = 256;
/// How long a session lasts, whether or not it is used: a working day.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a browser is known after a sign-in: a year, about as long as browsers keep a cookie.
const KNOWN: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How many cookies of one name are tried: browsers keep at most 180 for a site.
const MAX_COOKIES: usize = 180;
/// The random bytes of a cookie and of a form's token.
const TOKEN_BYTES: usize = 32;

type Fingerprint = [u8; 32];

/// The sessions of this process.
#[derive(Debug)]
pub struct Sessions {
    random: SystemRandom,
    open: Mutex<HashMap<Fingerprint, Open>>,
    /// The token of forms where no user signs in.
    form: String,
}

#[derive(Debug, Clone)]
struct Open {
    session: Session,
    password: Fingerprint,
    began: Instant,
}

/// A session, as the pages see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user who has signed in; none if the page has no users.
    pub user: Option<String>,
    /// The token in each of its forms.
    pub form: String,
}

impl Session {
    /// Whether `token` is this session's token for forms.
    pub fn made(&self, token: &str) -> bool {
        bool::from(fingerprint(&self.form).ct_eq(&fingerprint(token)))
    }
}

/// Sessions are not possible.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The kernel gives no random bytes.
    #[error("cannot make sessions: the kernel gives no random bytes")]
    #[diagnostic(help("see whether getrandom(2) is permitted here"))]
    Random,
    /// A password cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Password(#[from] secret::Error),
}

impl Sessions {
    /// No sessions yet.
    pub fn new() -> Result<Self, Error> {
        let random = SystemRandom::new();
        Ok(Self {
            form: token(&random)?,
            random,
            open: Mutex::default(),
        })
    }

    /// The session of all visitors, if the page has no users.
    pub fn nobody(&self) -> Session {
        Session {
            user: None,
            form: self.form.clone(),
        }
    }

    /// Begin a session; gives its cookie.
    pub fn begin(&self, user: &str, password: &str, now: Instant) -> Result<String, Error> {
        let cookie = token(&self.random)?;
        let session = Session {
            user: Some(user.into()),
            form: token(&self.random)?,
        };
        let mut open = mutex::lock(&self.open);
        open.retain(|_, open| !open.is_over(now));
        while open.len() >= MAX_SESSIONS {
            let oldest = open
                .iter()
                .min_by_key(|(_, open)| open.began)
                .map(|(key, _)| *key);
            oldest.and_then(|key| open.remove(&key));
        }
        let password = fingerprint(password);
        open.insert(
            fingerprint(&cookie),
            Open {
                session,
                password,
                began: now,
            },
        );
        Ok(cookie)
    }

    /// The session of `cookie`, if there is one, and `still` gives the same password of its user as at the sign-in.
    pub fn find(
        &self,
        cookie: &str,
        now: Instant,
        still: impl FnOnce(&str) -> Option<Fingerprint>,
    ) -> Option<Session> {
        let key = fingerprint(cookie);
        let found = self.open().get(&key).cloned().filter(|open| !open.is_over(now));
        let found = found.filter(|open| {
            let password = open.session.user.as_deref().and_then(still);
            password.is_some_and(|password| bool::from(password.ct_eq(&open.password)))
        });
        if found.is_none() {
            self.open().remove(&key);
        }
        found.map(|open| open.session)
    }

    /// The cookie of a browser that has signed in as `user`: a nonce, and its HMAC with the password as the key. So it needs no memory
    /// here, survives a restart, and ends when the password is changed.
    fn known(&self, user: &str, password: &str) -> Result<String, Error> {
        let nonce = token(&self.random)?;
        let proof = hmac::sign(&key(password), &known_text(user, &nonce));
        Ok(nonce + &hex(proof.as_ref()))
    }

    /// End the session of `cookie`.
    pub fn end(&self, cookie: &str) {
        self.open().remove(&fingerprint(cookie));
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<Fingerprint, Open>> {
        mutex::lock(&self.open)
    }
}

impl Open {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= LASTS
    }
}

/// A digest that is stored and compared instead of a secret.
pub fn fingerprint(secret: &str) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    bytes
}

fn token(random: &SystemRandom) -> Result<String, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(hex(&bytes))
}

fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, password.as_bytes())
}

fn known_text(user: &str, nonce: &str) -> Vec<u8> {
    format!("gitsocket known browser {nonce} {user}").into_bytes()
}

/// Whether `cookie` was given to a browser that had signed in as `user` with `password`.
fn is_known(cookie: &str, user: &str, password: &str) -> bool {
    let Some((nonce, proof)) = cookie.split_at_checked(2 * TOKEN_BYTES) else {
        return false;
    };
    let expected = hmac::sign(&key(password), &known_text(user, nonce));
    hex(expected.as_ref()).as_bytes().ct_eq(proof.as_bytes()).into()
}

/// The kinds of cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    /// A session.
    Session,
    /// A browser that has signed in before.
    Known,
}

impl Cookie {
    /// The values in the `Cookie` headers of a request that could be ours. Another host of the same domain, or another path, may
    /// set cookies of that name, and a browser may send those first: so all values count.
    pub fn values<'a>(self, headers: impl Iterator<Item = &'a str>, tls: bool) -> Vec<&'a str> {
        let name = self.name(tls);
        let digits = match self {
            Self::Session => 2 * TOKEN_BYTES,
            Self::Known => 4 * TOKEN_BYTES,
        };
        headers
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(key, value)| {
                *key == name && value.len() == digits && value.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
            .map(|(_, value)| value)
            .take(MAX_COOKIES)
            .collect()
    }

    /// With TLS, the prefix `__Host-` makes sure that this host has set the cookie, for all paths.
    fn name(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Session, true) => "__Host-gitsocket",
            (Self::Session, false) => "gitsocket",
            (Self::Known, true) => "__Host-gitsocket-known",
            (Self::Known, false) => "gitsocket-known",
        }
    }

    /// The `Set-Cookie` header for `value`; an empty value removes the cookie.
    pub fn set(self, value: &str, tls: bool) -> String {
        let name = self.name(tls);
        let secure = if tls { "; Secure" } else { "" };
        let age = match self {
            _ if value.is_empty() => 0,
            Self::Session => LASTS.as_secs(),
            Self::Known => KNOWN.as_secs(),
        };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_time_by_hand_and_with_its_password() {
        let (sessions, now) = (Sessions::new().unwrap(), Instant::now());
        let still = |_: &str| Some(fingerprint("s3cret"));
        let begin = || sessions.begin("admin", "s3cret", now).unwrap();
        let cookie = begin();
        let session = sessions.find(&cookie, now, still).unwrap();
        assert_eq!(session.user.as_deref(), Some("admin"));
        assert!(session.made(&session.form) && !session.made("") && !session.made(&cookie));
        assert_eq!(sessions.find("", now, still), None);
        assert_eq!(sessions.find(&cookie.to_uppercase(), now, still), None);
        assert_eq!(sessions.find(&cookie, now + LASTS, still), None);
        let cookie = begin();
        sessions.end(&cookie);
        assert_eq!(sessions.find(&cookie, now, still), None);
        // Neither a changed password nor a user who is gone comes back by itself.
        for gone in [Some(fingerprint("another")), None] {
            let cookie = begin();
            assert_eq!(sessions.find(&cookie, now, |_| gone), None);
            assert_eq!(sessions.find(&cookie, now, still), None);
        }
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let (sessions, now) = (Sessions::new().unwrap(), Instant::now());
        let still = |_: &str| Some(fingerprint("s3cret"));
        let at = |n: usize| now + Duration::from_secs(n as u64);
        let cookies: Vec<_> = (0..MAX_SESSIONS + 2)
            .map(|n| sessions.begin("admin", "s3cret", at(n)).unwrap())
            .collect();
        let lives = |n: usize| sessions.find(&cookies[n], at(n), still).is_some();
        assert_eq!([0, 1, 2, MAX_SESSIONS + 1].map(lives), [false, false, true, true]);
    }

    #[test]
    fn cookies_are_found_among_others() {
        let (ours, planted) = ("a".repeat(64), "b".repeat(64));
        for (headers, expected) in [
            (vec![format!("gitsocket={ours}")], vec![&ours]),
            (vec![format!("a=b; gitsocket={ours};c")], vec![&ours]),
            (vec!["a=b".into(), format!("gitsocket={ours}")], vec![&ours]),
            (vec![format!("gitsocket=; gitsocket={ours}")], vec![&ours]),
            (
                vec![format!("gitsocket={planted}; gitsocket={ours}")],
                vec![&planted, &ours],
            ),
            (vec![format!("gitsocket={ours}a")], vec![]),
            (vec![format!("xgitsocket={ours}")], vec![]),
            (vec!["gitsocket".into(), ";;=;".into()], vec![]),
        ] {
            let found = Cookie::Session.values(headers.iter().map(String::as_str), false);
            assert_eq!(found, expected, "{headers:?}");
        }
        let many = format!("gitsocket={planted};").repeat(MAX_COOKIES + 1);
        assert_eq!(
            Cookie::Session.values([many.as_str()].into_iter(), false).len(),
            MAX_COOKIES
        );
        assert_eq!(
            Cookie::Session.set("x", true),
            "__Host-gitsocket=x; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200; Secure"
        );
    }

    #[test]
    fn a_browser_is_known_to_its_user_and_password() {
        let sessions = Sessions::new().unwrap();
        let cookie = sessions.known("admin", "s3cret").unwrap();
        let header = format!("gitsocket-known={cookie}");
        assert_eq!(
            Cookie::Known.values([header.as_str()].into_iter(), false),
            [&cookie]
        );
        assert!(is_known(&cookie, "admin", "s3cret"));
        let other = format!(
            "{}{}",
            &cookie[..127],
            if cookie.ends_with('0') { "1" } else { "0" }
        );
        for (cookie, user, password) in [
            (cookie.as_str(), "root", "s3cret"),
            (&cookie, "admin", "another"),
            (&other, "admin", "s3cret"),
            (&cookie[..64], "admin", "s3cret"),
            ("", "admin", "s3cret"),
        ] {
            assert!(!is_known(cookie, user, password), "{cookie} {user} {password}");
        }
    }
}
