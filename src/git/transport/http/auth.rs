//! Who we say we are: the `Authorization` header, from `auth` or from the URL, for one origin only.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ureq::http::HeaderValue;
use zeroize::Zeroizing;

use super::Error;
use crate::{
    base::{
        name::{RepoUrl, Scheme},
        secret::Secret,
    },
    git::origin::{Auth, Tls},
};

/// What to say in `Authorization`, which is masked in `Debug`.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) header: HeaderValue,
    /// Say it at once, or only when asked.
    pub(super) at_once: bool,
    /// Where the credentials are from.
    pub(super) from: String,
}

impl Credentials {
    /// The credentials for `url`, if there are any. Their file is read now.
    pub(super) fn read(url: &RepoUrl, auth: &Auth, tls: &Tls) -> Result<Option<Self>, Error> {
        let secrets = url.with_secrets();
        if matches!((auth, secrets.user()), (Auth::None | Auth::Ssh(_), None)) {
            return Ok(None);
        }
        if url.scheme() != Scheme::Https && !tls.allow_plain_credentials {
            return Err(Error::PlainCredentials { url: url.to_string() });
        }
        let (value, at_once, from) = match auth {
            Auth::Basic { user, password_file } => {
                let password = Secret::read(password_file)?;
                (
                    basic(url, user, password.expose())?,
                    true,
                    password_file.to_string(),
                )
            }
            Auth::Bearer { token_file } => {
                let token = Secret::read(token_file)?;
                let value = Zeroizing::new(format!("Bearer {}", token.expose()));
                (value, true, token_file.to_string())
            }
            // A user alone may be a token, or be there by habit for a public repository: as git, wait to be asked.
            // `Ssh` is never for HTTP, see the checks of the configuration.
            Auth::None | Auth::Ssh(_) => {
                let (user, password) = (secrets.user().unwrap_or_default(), secrets.password());
                let value = basic(url, user, password.unwrap_or_default())?;
                (value, password.is_some(), "the URL".into())
            }
        };
        let ascii = value.is_ascii().then(|| HeaderValue::from_str(&value).ok());
        let mut header = ascii.flatten().ok_or_else(|| Error::Credentials {
            url: url.to_string(),
            reason: "they contain characters that a header cannot hold",
        })?;
        header.set_sensitive(true);
        Ok(Some(Self {
            header,
            at_once,
            from,
        }))
    }
}

impl Credentials {
    /// Whether `text`, which may be cut off, gives them away: some servers repeat what they were sent.
    pub(super) fn are_in(&self, text: &str) -> bool {
        /// The beginning, in bytes, that is enough of a secret.
        const BEGINNING: usize = 8;
        let value = self.header.to_str().unwrap_or_default();
        let token = value.rsplit(' ').next().unwrap_or_default();
        let pair = Zeroizing::new(BASE64_STANDARD.decode(token).unwrap_or_default());
        let pair = std::str::from_utf8(&pair).unwrap_or_default();
        let password = pair.split_once(':').map_or("", |(_, password)| password);
        [token, password].iter().any(|secret| {
            let end = secret.floor_char_boundary(BEGINNING);
            !secret.is_empty() && text.contains(&secret[..end])
        })
    }
}

/// RFC 7617.
fn basic(url: &RepoUrl, user: &str, password: &str) -> Result<Zeroizing<String>, Error> {
    if user.contains(':') {
        return Err(Error::Credentials {
            url: url.to_string(),
            reason: "a user's name cannot contain ':'",
        });
    }
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let code = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    Ok(Zeroizing::new(format!("Basic {}", *code)))
}
