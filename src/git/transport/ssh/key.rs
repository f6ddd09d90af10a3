//! A private key, from its file: in OpenSSH's format or as PEM, in the clear or encrypted.
//!
//! The texts of key and passphrase are overwritten as soon as they have been read; the key itself when it is dropped.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use russh::keys::{self as formats, Algorithm, Encryption, PrivateKey, ssh_key};
use zeroize::Zeroizing;

use super::Error;
use crate::base::{
    name::AbsPath,
    secret::{self, Secret},
};

/// Read the key in `path`, with the passphrase in `passphrase_file` if it is encrypted.
pub(super) fn read(path: &AbsPath, passphrase_file: Option<&AbsPath>) -> Result<PrivateKey, Error> {
    let text = secret::read(path)?;
    let passphrase = || -> Result<Secret, Error> {
        let file = passphrase_file.ok_or_else(|| Error::Encrypted { path: path.clone() })?;
        Ok(Secret::read(file)?)
    };
    let key = parse(&text, passphrase).map_err(|fault| match (fault, passphrase_file) {
        (Fault::Other(err), _) => *err,
        (Fault::Locked, Some(file)) => Error::Passphrase {
            key: path.clone(),
            passphrase_file: file.clone(),
        },
        (Fault::Locked, None) => Error::Encrypted { path: path.clone() },
        (Fault::NotUsable(reason, help), _) => Error::Key {
            path: path.clone(),
            reason,
            help,
        },
    })?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(key),
        other => Err(Error::Key {
            path: path.clone(),
            reason: format!("keys of the kind {other} are not supported"),
            help: NEW_KEY,
        }),
    }
}

const NEW_KEY: &str =
    "make one with: ssh-keygen -t ed25519 -N '' -f FILE; and make FILE.pub a deploy key of the repository";
const AGAIN: &str =
    "copy the file once more, byte for byte; or make a new key with: ssh-keygen -t ed25519 -N '' -f FILE";
const CONVERT: &str = "bring it into OpenSSH's format with: ssh-keygen -p -f FILE";

enum Fault {
    /// The passphrase is wrong.
    Locked,
    NotUsable(String, &'static str),
    Other(Box<Error>),
}

impl From<Error> for Fault {
    fn from(err: Error) -> Self {
        Self::Other(Box::new(err))
    }
}

/// The key in `text`; `passphrase` is asked only if it is encrypted.
fn parse(text: &[u8], passphrase: impl Fn() -> Result<Secret, Error>) -> Result<PrivateKey, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| no_key("it is not text"))?;
    let (label, body) = armour(text)?;
    if label == "OPENSSH PRIVATE KEY" {
        let damaged = |err: ssh_key::Error| damaged(&format!("it is damaged ({err})"));
        let key = PrivateKey::from_openssh(text.trim_start()).map_err(damaged)?;
        return if key.is_encrypted() {
            key.decrypt(passphrase()?.expose()).map_err(|_| Fault::Locked)
        } else {
            Ok(key)
        };
    }
    let headers = || body.lines().filter(|line| line.contains(':'));
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.lines().filter(|line| !line.contains(':')).map(str::trim));
    let der = BASE64_STANDARD
        .decode(&*base64)
        .map(Zeroizing::new)
        .map_err(|_| damaged("it is damaged (its base64 cannot be read)"))?;
    let damaged = |err: formats::Error| {
        damaged(&format!(
            "it is damaged, or of a kind that is not supported ({err})"
        ))
    };
    if headers().any(|line| line.contains("ENCRYPTED")) {
        let how = headers().find_map(|line| line.strip_prefix("DEK-Info:"));
        let encryption = how
            .and_then(|how| how.trim().strip_prefix("AES-128-CBC,"))
            .and_then(initial_vector);
        return match (label, encryption) {
            ("RSA PRIVATE KEY", Some(iv)) => {
                let passphrase = passphrase()?;
                formats::decode_pkcs5(&der, Some(passphrase.expose()), Encryption::Aes128Cbc(iv))
                    .map_err(|_| Fault::Locked)
            }
            _ => Err(Fault::NotUsable(
                "its old way of encryption is not supported".into(),
                CONVERT,
            )),
        };
    }
    match label {
        "ENCRYPTED PRIVATE KEY" => {
            let passphrase = passphrase()?;
            formats::pkcs8::decode_pkcs8(&der, Some(passphrase.expose().as_bytes()))
                .map_err(|_| Fault::Locked)
        }
        "RSA PRIVATE KEY" => formats::pkcs8::decode_pkcs8(&pkcs8_of_rsa(&der), None).map_err(damaged),
        "PRIVATE KEY" | "EC PRIVATE KEY" => formats::pkcs8::decode_pkcs8(&der, None).map_err(damaged),
        label if label.ends_with(" PRIVATE KEY") && !label.starts_with("DSA") => Err(Fault::NotUsable(
            format!("{label:?} is not a form of key that is supported"),
            CONVERT,
        )),
        label => Err(no_key(&format!(
            "{label:?} is not a kind of key that is supported"
        ))),
    }
}

fn damaged(reason: &str) -> Fault {
    Fault::NotUsable(reason.into(), AGAIN)
}

fn no_key(reason: &str) -> Fault {
    Fault::NotUsable(reason.into(), NEW_KEY)
}

/// The label of a PEM text (RFC 7468), and what stands between its lines.
fn armour(text: &str) -> Result<(&str, &str), Fault> {
    let Some((_, rest)) = text.split_once("-----BEGIN ") else {
        let public = ["ssh-", "ecdsa-", "sk-"]
            .iter()
            .any(|kind| text.trim_start().starts_with(kind));
        return Err(match text.trim_start() {
            _ if public => Fault::NotUsable(
                "it is the public half".into(),
                "name the file of the private half, which is called the same without .pub",
            ),
            "" => no_key("it is empty"),
            text if text.starts_with("PuTTY-User-Key-File") => Fault::NotUsable(
                "it is in PuTTY's format".into(),
                "convert it with: puttygen FILE.ppk -O private-openssh -o FILE",
            ),
            _ => no_key("it does not hold a private key"),
        });
    };
    let (label, rest) = rest.split_once("-----").ok_or_else(|| damaged("it is cut off"))?;
    let (body, _) = rest
        .split_once("-----END ")
        .ok_or_else(|| damaged("it is cut off"))?;
    Ok((label, body))
}

fn initial_vector(hex: &str) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    let hex = hex.trim();
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in out.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(out)
}

/// An RSA key of PKCS #1 (RFC 8017, A.1.2) as PKCS #8 (RFC 5208, section 5).
fn pkcs8_of_rsa(pkcs1: &[u8]) -> Zeroizing<Vec<u8>> {
    /// Version 0, and the algorithm rsaEncryption without parameters.
    const HEAD: [u8; 18] = [
        0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
        0x00,
    ];
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let octets = tagged(OCTET_STRING, &[pkcs1]);
    tagged(SEQUENCE, &[&HEAD, &octets])
}

/// DER: tag, length in its shortest form, content.
fn tagged(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = length.to_be_bytes();
    let bytes = &bytes[bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len() - 1)..];
    let mut out = Zeroizing::new(Vec::with_capacity(length + 10));
    out.push(tag);
    if length >= 0x80 {
        out.push(0x80 | bytes.len() as u8);
    }
    out.extend_from_slice(bytes);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}
