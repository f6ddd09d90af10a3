//! Signatures that are an HMAC-SHA256 of the body (RFC 2104), in hexadecimal: GitHub, Gitea, Forgejo and Gogs, Bitbucket, and
//! other senders with another header.

use hyper::HeaderMap;
use ring::hmac;

use super::{MISMATCH, Refusal, header, hex};
use crate::web::secret::Secret;

/// The length of a signature.
pub(super) const BYTES: usize = 32;

type Signature = [u8; BYTES];

/// The signature of GitHub: <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>.
pub(super) fn github(headers: &HeaderMap) -> Result<Signature, Refusal> {
    const NAME: &str = "X-Hub-Signature-256";
    match header::one(headers, NAME)? {
        None if headers.contains_key("x-hub-signature") => Err(Refusal::stranger(
            "no X-Hub-Signature-256, only the old X-Hub-Signature: the sender signs with SHA-1, which does not count",
        )),
        None => Err(header::missing(NAME, "does the webhook have a secret?")),
        Some(value) => decode(NAME, value, "sha256="),
    }
}

/// The signature of Gitea, Forgejo or Gogs. A fork also sends the headers of its origin, with the same value. The value is empty if
/// the webhook has no secret.
pub(super) fn gitea(headers: &HeaderMap) -> Result<Signature, Refusal> {
    const NAMES: [&str; 3] = ["X-Gitea-Signature", "X-Forgejo-Signature", "X-Gogs-Signature"];
    let mut found: Option<Signature> = None;
    for name in NAMES {
        let Some(value) = header::one(headers, name)? else {
            continue;
        };
        let signature = decode(name, value, "")?;
        if found.is_some_and(|found| found != signature) {
            return Err(Refusal::stranger(
                "X-Gitea-Signature, X-Forgejo-Signature and X-Gogs-Signature are not the same",
            ));
        }
        found = Some(signature);
    }
    found.ok_or_else(|| header::missing(NAMES[0], "does the webhook have a secret?"))
}

/// The signature of Bitbucket, in the cloud and in a data center.
pub(super) fn bitbucket(headers: &HeaderMap) -> Result<Signature, Refusal> {
    const NAME: &str = "X-Hub-Signature";
    match header::one(headers, NAME)? {
        None if headers
            .get("x-event-key")
            .is_some_and(|key| key == "diagnostics:ping") =>
        {
            Err(header::missing(
                NAME,
                "Data Center does not sign *Test connection*; push to try the webhook",
            ))
        }
        None => Err(header::missing(NAME, "does the webhook have a secret?")),
        Some(value) => decode(NAME, value, "sha256="),
    }
}

/// The signature in the header `name`, after `prefix`.
pub(super) fn of(headers: &HeaderMap, name: &str, prefix: &str) -> Result<Signature, Refusal> {
    let value = header::one(headers, name)?;
    let value = value.ok_or_else(|| header::missing(name, "the sender does not sign, or by another name"))?;
    decode(name, value, prefix)
}

fn decode(name: &str, value: &str, prefix: &str) -> Result<Signature, Refusal> {
    let Some(digits) = value.strip_prefix(prefix) else {
        return Err(Refusal::stranger(format!(
            "{name} does not begin with `{prefix}`"
        )));
    };
    if digits.is_empty() {
        return Err(header::empty(name));
    }
    hex::decode(digits).ok_or_else(|| {
        Refusal::stranger(format!(
            "{name} is not {} hexadecimal digits: the sender signs in another way",
            2 * BYTES
        ))
    })
}

/// Check that `signature` is the signature of `body` by one of the `secrets`.
pub(super) fn verify(signature: &Signature, secrets: &[Secret], body: &[u8]) -> Result<(), Refusal> {
    let is_by = |secret: &Secret| is_valid(secret.expose().as_bytes(), body, signature);
    if secrets.iter().any(is_by) {
        Ok(())
    } else {
        Err(Refusal::stranger(MISMATCH))
    }
}

/// In constant time.
fn is_valid(key: &[u8], body: &[u8], signature: &Signature) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), body, signature).is_ok()
}
