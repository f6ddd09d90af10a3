//! A delivery's headers and body become a verdict: who sent it is proven or refused, and what it says is read after that.
//!
//! Pure: no file, no clock, no socket. What a stranger can send ends here as a [`Delivery`] or as a [`Refusal`].
//!
//! Invariant: nothing of a body is parsed before its sender is proven, and no reason holds any text of a stranger's, so
//! that reasons can be counted and shown. A payload never says what is deployed: its refs can only keep a run from
//! being started.

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

/// What the headers of a delivery promise.
#[derive(Debug)]
pub struct Expected {
    proof: Proof,
    /// The id that the forge gave the delivery: the same where it is sent once more.
    id: Option<String>,
    /// What has happened, in the forge's word.
    event: Option<String>,
}

/// How a sender proves that it knows the secret.
#[derive(Debug)]
enum Proof {
    /// By an HMAC-SHA256 of the body.
    Signature([u8; signature::BYTES]),
    /// By one of a moment, an id and the body.
    Standard(standard::Signed),
    Token(Said),
    /// By saying it, as this user.
    Password {
        user: Said,
        password: Said,
    },
}

/// A delivery whose sender is proven.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The forge's id for it.
    pub id: Option<String>,
    /// What it says.
    pub event: Event,
}

/// Why a delivery counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 401 or 415.
    pub status: u16,
    /// For the operator: what is wrong, and what may be the cause. Never for a sender who is not proven.
    pub why: Cow<'static, str>,
}

impl Refusal {
    /// The sender is not proven.
    fn stranger(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: 401,
            why: why.into(),
        }
    }

    /// The sender is, but what it says is of no use.
    fn useless(why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: 400,
            why: why.into(),
        }
    }
}

/// What is said of a signature that is none of ours.
const MISMATCH: &str = "the signature does not match: another secret, or a proxy that changed the body";

/// What `headers` promise, before the body is read.
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

/// Whether deliveries are JSON, and nothing else.
pub fn needs_json(from: &From) -> bool {
    !matches!(from, From::Bearer { .. } | From::Basic { .. } | From::Hmac { .. })
}

impl Expected {
    /// Whether the headers are all of the proof: then [`Self::prove`] needs no body.
    pub fn is_proven_by_headers(&self) -> bool {
        matches!(self.proof, Proof::Token(_) | Proof::Password { .. })
    }

    /// Whether the sender knows one of the `secrets`, of which `body` is what was signed.
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

    /// What a delivery of a proven sender says. `now` is when it was received.
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

/// What a secret of `from`'s must be.
pub fn usable(from: &From) -> Usable {
    match from {
        From::StandardWebhooks { .. } => |secret| standard::key(secret).map(drop),
        _ => |_| Ok(()),
    }
}

#[cfg(test)]
#[path = "forge/tests.rs"]
mod tests;
