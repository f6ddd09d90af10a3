//! A text that a sender sends as it is, such as a token.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::web::secret::Secret;

/// A text of a sender, which may be a secret.
pub(super) struct Said(Zeroizing<String>);

impl Said {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Whether it is `secret`, in constant time.
    pub(super) fn is(&self, secret: &Secret) -> bool {
        secret.is(&self.0)
    }

    /// Whether it is `text`, in constant time for texts of the same length.
    pub(super) fn equals(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said(…)")
    }
}
