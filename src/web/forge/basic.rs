//! User and password (RFC 7617), for Azure DevOps.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::HeaderMap;
use zeroize::Zeroizing;

use super::{Refusal, bearer::credentials, said::Said};

/// User and password in `Authorization`.
pub(super) fn read(headers: &HeaderMap) -> Result<(Said, Said), Refusal> {
    let wrong = || Refusal::stranger("Authorization is not `Basic` with user and password in Base64");
    let bytes = Zeroizing::new(
        STANDARD
            .decode(credentials(headers, "Basic")?)
            .map_err(|_| wrong())?,
    );
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    // A user's name has no colon, a password may have some.
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    if password.is_empty() {
        return Err(Refusal::stranger(
            "Authorization holds a user, and an empty password",
        ));
    }
    Ok((Said::new(user), Said::new(password)))
}
