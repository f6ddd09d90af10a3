//! User and password, as RFC 7617 has them; for Azure DevOps.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::HeaderMap;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Refusal, bearer::credentials};
use crate::web::secret::Secret;

/// What a sender said, which may be a secret.
pub(super) struct Said(Zeroizing<String>);

impl Said {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Whether it is `secret`, in a time that tells nothing of it.
    pub(super) fn is(&self, secret: &Secret) -> bool {
        secret.is(&self.0)
    }

    /// Whether it is `text`, of which the length may show.
    pub(super) fn equals(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said(…)")
    }
}

/// User and password in `Authorization`.
pub(super) fn read(headers: &HeaderMap) -> Result<(Said, Said), Refusal> {
    let wrong = || Refusal::stranger("Authorization is not `Basic` with user and password in Base64");
    let bytes = Zeroizing::new(
        STANDARD
            .decode(credentials(headers, "Basic")?)
            .map_err(|_| wrong())?,
    );
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    // A user's name holds no colon, a password may.
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    if password.is_empty() {
        return Err(Refusal::stranger(
            "Authorization holds a user, and an empty password",
        ));
    }
    Ok((Said::new(user), Said::new(password)))
}
