//! Authenticates the sender of a delivery by headers and body, and then reads the delivery.
//!
//! There is no I/O: no file, no clock, no socket. Whatever a client sends becomes a [`Delivery`] or a [`Refusal`].
//!
//! Invariant: no body is parsed before its sender is authenticated, and no reason holds text of an unauthenticated sender, so that
//! reasons can be counted and shown. A payload never decides what is deployed: its refs can only prevent a run.

mod basic;
mod bearer;
mod header;
mod hex;
mod payload;
mod said;
mod signature;
mod standard;

use std::{borrow::Cow, time::SystemTime};

use hyper::HeaderMap;

use super::{
    config::From,
    secret::{Secret, Usable},
};

pub use payload::{Concern, Event, Pushed, concern, meant};
use said::Said;

/// What the headers of a delivery say.
#[derive(Debug)]
pub struct Expected {
    proof: Proof,
    /// The forge's id of the delivery, which stays the same when it is repeated.
    id: Option<String>,
    /// The event, in the forge's word.
    event: Option<String>,
}

/// How a sender proves that it knows the secret.
#[derive(Debug)]
enum Proof {
    /// By an HMAC-SHA256 of the body.
    Signature([u8; signature::BYTES]),
    /// By an HMAC-SHA256 of a timestamp, an id and the body.
    Standard(standard::Signed),
    Token(Said),
    /// By user and password.
    Password {
        user: Said,
        password: Said,
    },
}

/// A delivery whose sender is authenticated.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The forge's id for it.
    pub id: Option<String>,
    /// What has happened.
    pub event: Event,
}

/// Why a delivery is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 401 or 415.
    pub status: u16,
    /// What is wrong, and the probable cause, for the operator. An unauthenticated sender never gets it.
    pub why: Cow<'static, str>,
}

impl Refusal {
    /// The sender is not authenticated.
    fn stranger(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: 401,
            why: why.into(),
        }
    }

    /// The sender is authenticated, but the delivery is not valid.
    fn useless(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: 400,
            why: why.into(),
        }
    }
}

const MISMATCH: &str = "the signature does not match: another secret, or a proxy that changed the body";

/// Read `headers`, before the body is read.
pub fn expect(from: &From, headers: &HeaderMap) -> Result<Expected, Refusal> {
    let proof = match from {
        From::GitHub { .. } => signature::github(headers).map(Proof::Signature),
        From::Gitea { .. } => signature::gitea(headers).map(Proof::Signature),
        From::Bitbucket { .. } => signature::bitbucket(headers).map(Proof::Signature),
        From::Hmac { header, prefix, .. } => signature::of(headers, header, prefix).map(Proof::Signature),
        From::StandardWebhooks { .. } => standard::read(headers).map(Proof::Standard),
        From::GitLab { .. } => bearer::gitlab(headers).map(Proof::Token),
        From::Bearer { .. } => bearer::read(headers).map(Proof::Token),
        From::Basic { .. } => basic::read(headers).map(|(user, password)| Proof::Password { user, password }),
    };
    let proof = proof.map_err(|refusal| match header::other_sender(from, headers) {
        Some(hint) => Refusal::stranger(format!("{}; {hint}", refusal.why)),
        None => refusal,
    })?;
    let names = header::names(from);
    let expected = Expected {
        proof,
        id: header::id(headers, names.ids),
        event: header::event(headers, names.events)?,
    };
    if needs_json(from) {
        header::json(headers)?;
    }
    Ok(expected)
}

/// Whether deliveries must be JSON.
pub fn needs_json(from: &From) -> bool {
    !matches!(from, From::Bearer { .. } | From::Basic { .. } | From::Hmac { .. })
}

impl Expected {
    /// Whether the headers alone authenticate the sender, so that [`Self::prove`] needs no body.
    pub fn is_proven_by_headers(&self) -> bool {
        matches!(self.proof, Proof::Token(_) | Proof::Password { .. })
    }

    /// Check that the sender knows one of the `secrets`; `body` is what a signature signs.
    pub fn prove(&self, from: &From, secrets: &[Secret], body: &[u8]) -> Result<(), Refusal> {
        match &self.proof {
            Proof::Signature(signature) => signature::verify(signature, secrets, body),
            Proof::Standard(signed) => signed.verify(secrets, body),
            Proof::Token(said) if secrets.iter().any(|secret| said.is(secret)) => Ok(()),
            Proof::Token(_) => Err(Refusal::stranger("the token does not match `token_file`")),
            Proof::Password { user, password } => {
                let expected = match from {
                    From::Basic { user, .. } => user.as_str(),
                    _ => "",
                };
                let is_password = secrets.iter().any(|secret| password.is(secret));
                if !user.equals(expected) {
                    Err(Refusal::stranger("the user does not match `user`"))
                } else if !is_password {
                    Err(Refusal::stranger("the password does not match `password_file`"))
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Read the delivery of an authenticated sender, received at `now`.
    pub fn read(self, from: &From, body: &[u8], now: SystemTime) -> Result<Delivery, Refusal> {
        if let Proof::Standard(signed) = &self.proof {
            signed.is_of(now)?;
        }
        let (event, own_id) = payload::event(from, self.event.as_deref(), body)?;
        Ok(Delivery {
            id: self.id.or(own_id),
            event,
        })
    }
}

/// The check for secrets of `from`.
pub fn usable(from: &From) -> Usable {
    match from {
        From::StandardWebhooks { .. } => |secret| standard::key(secret).map(drop),
        _ => |_| Ok(()),
    }
}

#[cfg(test)]
#[path = "forge/tests.rs"]
mod tests;
