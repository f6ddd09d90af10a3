//! Which keys a host is known by, as sshd(8) defines in "SSH_KNOWN_HOSTS FILE FORMAT".
//!
//! Pure: texts of files go in, a [`Verdict`] comes out. A line that is not understood makes no host known,
//! and is remembered with its number. Knows neither the network nor where the files are.

use std::path::PathBuf;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use russh::keys::{
    Algorithm, Certificate, HashAlg, PublicKey,
    ssh_key::{certificate::CertType, public::KeyData},
};

/// The port that a name without one stands for.
pub(super) const PORT: u16 = 22;

#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub file: PathBuf,
    /// The line's number, from 1.
    pub line: usize,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.file.display(), self.line)
    }
}

/// What the files say about the key that a host offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    Unknown,
    /// The host is known by other keys only; this is where one stands, one of the same kind if there is any.
    Changed(Line),
    /// The key must not be used any more.
    Revoked(Line),
    /// An authority of the host's signed it, but it is not valid for this host or at this time.
    Invalid(String),
}

/// A host's name as it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    /// Name or address, without brackets, in lower case.
    pub(super) name: &'a str,
    pub(super) port: u16,
}

impl Host<'_> {
    /// The host as a line of a file names it.
    pub(super) fn pattern(self) -> String {
        match self.port {
            PORT => self.name.into(),
            port => format!("[{}]:{port}", self.name),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    entries: Vec<Entry>,
    /// The first line that was not understood, and why.
    pub(super) skipped: Option<(Line, &'static str)>,
}

impl KnownHosts {
    /// Read `sources`, the most important first.
    pub(super) fn parse(sources: &[Source]) -> Self {
        let mut this = Self::default();
        for Source { file, text } in sources {
            for (number, line) in text.lines().enumerate() {
                let at = || Line {
                    file: file.clone(),
                    line: number + 1,
                };
                match parse_line(line) {
                    Ok(None) => {}
                    Ok(Some((marker, hosts, key))) => this.entries.push(Entry {
                        marker,
                        hosts,
                        key,
                        at: at(),
                    }),
                    Err(why) => {
                        this.skipped.get_or_insert_with(|| (at(), why));
                    }
                }
            }
        }
        this
    }

    /// What to think of `key`, offered by `host`.
    pub(super) fn verdict(&self, host: Host<'_>, key: &PublicKey) -> Verdict {
        if let Some(verdict) = self.revokes(host, key.key_data()) {
            return verdict;
        }
        match self.verdict_by_name(&host.pattern(), key.key_data()) {
            // As OpenSSH: a line without the port is as good, if its key is the same.
            Verdict::Unknown if host.port != PORT => match self.verdict_by_name(host.name, key.key_data()) {
                Verdict::Changed(_) => Verdict::Unknown,
                verdict => verdict,
            },
            verdict => verdict,
        }
    }

    /// What to think of `certificate`, offered by `host` at `now`, in seconds since 1970-01-01 UTC.
    pub(super) fn verdict_on_certificate(
        &self,
        host: Host<'_>,
        certificate: &Certificate,
        now: u64,
    ) -> Verdict {
        let (key, authority) = (certificate.public_key(), certificate.signature_key());
        let name = host.pattern();
        for suspect in [key, authority] {
            if let Some(verdict) = self.revokes(host, suspect) {
                return verdict;
            }
        }
        if self.find(&name, Marker::Authority, authority).is_none() {
            // As OpenSSH: then it is as good as the key in it.
            return self.verdict(host, &PublicKey::new(key.clone(), ""));
        }
        match check(certificate, host.name, now) {
            Ok(()) => Verdict::Known,
            Err(why) => Verdict::Invalid(why),
        }
    }

    /// The kinds of key that `host` is known by, each once.
    pub(super) fn algorithms(&self, host: Host<'_>) -> Vec<Algorithm> {
        let mut found = Vec::new();
        for name in names(host) {
            for entry in self.of(&name, Marker::Key) {
                let algorithm = entry.key.algorithm();
                if !found.contains(&algorithm) {
                    found.push(algorithm);
                }
            }
        }
        found
    }

    /// Whether a certificate could make `host` known.
    pub(super) fn has_authority(&self, host: Host<'_>) -> bool {
        self.of(&host.pattern(), Marker::Authority).next().is_some()
    }

    /// That `key` is revoked for `host`, with its port or without: more than OpenSSH, to which another line for the port makes it good.
    fn revokes(&self, host: Host<'_>, key: &KeyData) -> Option<Verdict> {
        let mut names = names(host).into_iter();
        let revoked = names.find_map(|name| self.find(&name, Marker::Revoked, key));
        revoked.map(|revoked| Verdict::Revoked(revoked.at.clone()))
    }

    fn verdict_by_name(&self, name: &str, key: &KeyData) -> Verdict {
        if self.find(name, Marker::Key, key).is_some() {
            return Verdict::Known;
        }
        let same_kind = |entry: &&Entry| entry.key.algorithm() == key.algorithm();
        let others = || self.of(name, Marker::Key);
        match others().find(same_kind).or_else(|| others().next()) {
            Some(other) => Verdict::Changed(other.at.clone()),
            None => Verdict::Unknown,
        }
    }

    fn of<'a>(&'a self, name: &'a str, marker: Marker) -> impl Iterator<Item = &'a Entry> {
        let marked = self.entries.iter().filter(move |entry| entry.marker == marker);
        marked.filter(move |entry| entry.hosts.matches(name))
    }

    fn find(&self, name: &str, marker: Marker, key: &KeyData) -> Option<&Entry> {
        let same = |entry: &&Entry| entry.marker == marker && entry.key == *key;
        self.entries
            .iter()
            .filter(same)
            .find(|entry| entry.hosts.matches(name))
    }
}

/// The names that lines about `host` can have.
fn names(host: Host<'_>) -> Vec<String> {
    match host.port {
        PORT => vec![host.pattern()],
        _ => vec![host.pattern(), host.name.into()],
    }
}

#[derive(Debug)]
struct Entry {
    marker: Marker,
    hosts: Hosts,
    key: KeyData,
    at: Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Key,
    Authority,
    Revoked,
}

#[derive(Debug)]
enum Hosts {
    /// Salt and HMAC-SHA1 of one name.
    Hashed(ring::hmac::Key, Vec<u8>),
    /// Patterns separated by commas, in lower case.
    Patterns(String),
}

impl Hosts {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(hashed) = text.strip_prefix('|') else {
            return Ok(Self::Patterns(text.to_ascii_lowercase()));
        };
        let (salt, hash) = hashed
            .strip_prefix("1|")
            .and_then(|rest| rest.split_once('|'))
            .ok_or("its hashed name is not |1|salt|hash")?;
        let decode = |text| {
            BASE64_STANDARD
                .decode(text)
                .map_err(|_| "its hashed name is not base64")
        };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &decode(salt)?);
        Ok(Self::Hashed(key, decode(hash)?))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Hashed(key, hash) => ring::hmac::verify(key, name.as_bytes(), hash).is_ok(),
            Self::Patterns(patterns) => {
                let (excluded, included): (Vec<_>, Vec<_>) =
                    patterns.split(',').partition(|pattern| pattern.starts_with('!'));
                let hit = |pattern: &str| matches(pattern.as_bytes(), name.as_bytes());
                included.iter().any(|pattern| hit(pattern))
                    && !excluded.iter().any(|pattern| hit(&pattern[1..]))
            }
        }
    }
}

/// Whether `pattern` matches all of `text`: `*` is any number of characters, `?` is one.
/// Goes back to the last `*` only, so that no pattern takes long.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

type Parsed = (Marker, Hosts, KeyData);

/// `[marker] hosts keytype base64 [comment]`; nothing for an empty line or a comment.
fn parse_line(line: &str) -> Result<Option<Parsed>, &'static str> {
    let mut words = line
        .split([' ', '\t', '\r'])
        .filter(|word| !word.is_empty())
        .peekable();
    let marker = match words.peek() {
        None => return Ok(None),
        Some(word) if word.starts_with('#') => return Ok(None),
        Some(&"@cert-authority") => Marker::Authority,
        Some(&"@revoked") => Marker::Revoked,
        Some(word) if word.starts_with('@') => return Err("its marker is not known"),
        Some(_) => Marker::Key,
    };
    if marker != Marker::Key {
        words.next();
    }
    let (Some(hosts), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else {
        return Err("it has no key");
    };
    if hosts.starts_with('@') {
        return Err("it has two markers");
    }
    let key = PublicKey::from_openssh(&format!("{kind} {key}")).map_err(|_| "its key cannot be read")?;
    Ok(Some((marker, Hosts::parse(hosts)?, key.key_data().clone())))
}

/// Whether a host certificate signed by a trusted authority is good for `host`; see PROTOCOL.certkeys of OpenSSH.
fn check(certificate: &Certificate, host: &str, now: u64) -> Result<(), String> {
    if certificate.cert_type() != CertType::Host {
        return Err("it is a user's certificate, not a host's".into());
    }
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err("it is signed with SHA-1".into());
    }
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    if now < certificate.valid_after() {
        return Err("it is not valid yet, or this machine's clock is wrong".into());
    }
    if now >= certificate.valid_before() {
        return Err("it has expired".into());
    }
    if certificate.validate_at(now, [&authority]).is_err() {
        return Err("its signature is wrong".into());
    }
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Err(format!(
            "it demands {option:?}, of which nothing is known for hosts"
        ));
    }
    let principals = certificate.valid_principals();
    let named = |pattern: &String| matches(pattern.to_ascii_lowercase().as_bytes(), host.as_bytes());
    if !principals.is_empty() && !principals.iter().any(named) {
        return Err(format!("it is for {}, not for {host}", principals.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
