//! Standard Webhooks 1.0.0, which GitLab's signing tokens follow.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::HeaderMap;
use ring::hmac;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{MISMATCH, Refusal, header, signature::BYTES};
use crate::web::secret::Secret;

/// How old a delivery may be, and how far ahead the sender's clock.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// How many signatures are verified. A sender that changes its secret sends two; more would only be work that an attacker causes.
const MAX_SIGNATURES: usize = 16;

/// What was signed besides the body, and the signatures.
#[derive(Debug)]
pub(super) struct Signed {
    id: String,
    timestamp: u64,
    signatures: Vec<[u8; BYTES]>,
}

/// Read the three headers.
pub(super) fn read(headers: &HeaderMap) -> Result<Signed, Refusal> {
    let [id, timestamp, signatures] = [
        one(headers, "webhook-id")?,
        one(headers, "webhook-timestamp")?,
        one(headers, "webhook-signature")?,
    ];
    let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let number = timestamp.parse().ok();
    let timestamp = number.filter(|number: &u64| is_number && number.to_string() == timestamp);
    let timestamp =
        timestamp.ok_or_else(|| Refusal::stranger("webhook-timestamp is not a number of seconds"))?;
    let signatures: Vec<_> = signatures
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(signature)
        .collect();
    if signatures.is_empty() {
        return Err(Refusal::stranger(
            "webhook-signature holds no `v1,` with 32 bytes in Base64: the sender signs in another way",
        ));
    }
    Ok(Signed {
        id: id.to_owned(),
        timestamp,
        signatures,
    })
}

fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refusal> {
    header::one(headers, name)?
        .ok_or_else(|| header::missing(name, "the sender does not sign as Standard Webhooks does"))
}

/// A signature `v1,BASE64`; other versions are ignored.
fn signature(text: &str) -> Option<[u8; BYTES]> {
    let bytes = STANDARD.decode(text.strip_prefix("v1,")?).ok()?;
    bytes.try_into().ok()
}

impl Signed {
    /// Check that one of the signatures is by one of the `secrets`.
    pub(super) fn verify(&self, secrets: &[Secret], body: &[u8]) -> Result<(), Refusal> {
        let is_by = |secret: &Secret| key(secret).is_ok_and(|key| self.is_by(&key, body));
        if secrets.iter().any(is_by) {
            Ok(())
        } else {
            Err(Refusal::stranger(MISMATCH))
        }
    }

    fn is_by(&self, key: &[u8], body: &[u8]) -> bool {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        context.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        context.update(body);
        let own = context.sign();
        let is = |signature: &[u8; BYTES]| bool::from(own.as_ref().ct_eq(signature));
        self.signatures.iter().any(is)
    }

    /// Check that it was signed about `now`: an old delivery may be a replay.
    pub(super) fn is_of(&self, now: SystemTime) -> Result<(), Refusal> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now.abs_diff(self.timestamp) <= TOLERANCE.as_secs() {
            Ok(())
        } else if now > self.timestamp {
            Err(Refusal::useless(
                "webhook-timestamp is more than five minutes old: it was sent once more, or a clock is wrong",
            ))
        } else {
            Err(Refusal::useless(
                "webhook-timestamp is more than five minutes ahead: a clock is wrong",
            ))
        }
    }
}

/// The key that `secret` encodes in Base64, usually after `whsec_`. The error is the end of a sentence.
pub(super) fn key(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let text = secret.expose();
    let text = text.strip_prefix("whsec_").unwrap_or(text);
    match STANDARD.decode(text) {
        Ok(key) if key.is_empty() => Err("there is nothing after `whsec_`"),
        Ok(key) => Ok(Zeroizing::new(key)),
        Err(_) => Err("it is not `whsec_` and a key in Base64"),
    }
}
