//! What must hold for every file of known hosts, and for every URL that SSH can use.

use std::sync::OnceLock;

use russh::keys::{
    Certificate, PrivateKey, PublicKey,
    key::safe_rng,
    ssh_key::certificate::{Builder, CertType},
};

use super::{
    known_hosts::{Host, KnownHosts, Source, Verdict},
    remote::Remote,
};
use crate::base::name::RepoUrl;

const HOSTS: [Host<'_>; 4] = [
    Host {
        name: "h.example",
        port: 22,
    },
    Host {
        name: "h.example",
        port: 2222,
    },
    Host {
        name: "127.0.0.1",
        port: 22,
    },
    Host {
        name: "::1",
        port: 2222,
    },
];

/// Keys of hosts, as known_hosts has them.
const KEYS: [&str; 2] = [
    include_str!("../../../../fixtures/ssh/ed25519.pub"),
    include_str!("../../../../fixtures/ssh/ecdsa-256.pub"),
];

/// Any text is read, and lines that are added to it count.
pub(crate) fn known_hosts(text: &str) {
    let known = parse(text.into());
    let count = text.lines().count();
    let is_there = |line: usize| (1..=count).contains(&line);
    assert!(known.skipped.as_ref().is_none_or(|(at, _)| is_there(at.line)));
    for text_of_key in KEYS {
        let key = key(text_of_key);
        let words: Vec<_> = text_of_key.split(' ').take(2).collect();
        let revoking = parse(format!("{text}\n@revoked * {}\n", words.join(" ")));
        for host in HOSTS {
            let verdict = known.verdict(host, &key);
            match &verdict {
                Verdict::Known => assert!(text.contains(words[1]), "{host:?} is known from nowhere"),
                Verdict::Changed(at) | Verdict::Revoked(at) => assert!(is_there(at.line), "{at}"),
                Verdict::Unknown => {}
                Verdict::Invalid(why) => panic!("no certificate was shown: {why}"),
            }
            let revoked = revoking.verdict(host, &key);
            assert!(matches!(revoked, Verdict::Revoked(_)), "{revoked:?}");
            let line = format!("{text}\n{} {}\n", host.pattern(), words.join(" "));
            let added = parse(line).verdict(host, &key);
            assert_eq!(
                added == Verdict::Known,
                !matches!(verdict, Verdict::Revoked(_)),
                "{added:?} after {verdict:?}: {host:?} in {text:?}"
            );
            if !known.algorithms(host).contains(&key.algorithm()) {
                assert_ne!(verdict, Verdict::Known);
            }
        }
    }
    certificates(&known);
}

/// A host's certificate is worth something only where its authority is known.
fn certificates(known: &KnownHosts) {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| {
        let text = include_str!("../../../../fixtures/ssh/ed25519");
        let authority = PrivateKey::from_openssh(text).expect("a fixture");
        let mut builder =
            Builder::new_with_random_nonce(&mut safe_rng(), key(KEYS[1]), 0, 1000).expect("random numbers");
        builder.cert_type(CertType::Host).expect("a kind");
        builder.valid_principal("h.example").expect("a name");
        builder.sign(&authority).expect("a key that signs")
    });
    for host in HOSTS {
        let late = known.verdict_on_certificate(host, certificate, 1000);
        let timely = known.verdict_on_certificate(host, certificate, 500);
        if let Verdict::Invalid(_) = timely {
            assert!(known.has_authority(host) && host.name != "h.example", "{host:?}");
        }
        if timely == Verdict::Known && late != Verdict::Known {
            assert!(known.has_authority(host), "{host:?}");
        }
    }
}

/// The path of `url` is one word to the shell of the host, whatever is in it.
pub(crate) fn remote(url: &RepoUrl) {
    let Ok(remote) = Remote::new(url) else {
        return;
    };
    let path = String::from_utf8_lossy(&url.with_secrets().path).into_owned();
    let expected = vec!["git-upload-pack".to_owned(), path];
    assert_eq!(words(&remote.command), Some(expected), "{}", remote.command);
    assert!(
        !remote.host.contains(['[', ']', '\n', ' ', ',']),
        "{:?}",
        remote.host
    );
}

/// The words that a POSIX shell makes of `command`, if it does nothing else with it (XCU, section 2.2).
fn words(command: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        let word = words.last_mut()?;
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '\\' => word.push(chars.next()?),
            ' ' => words.push(String::new()),
            c if c.is_ascii_alphanumeric() || "-_./".contains(c) => word.push(c),
            _ => return None,
        }
    }
    Some(words)
}

fn parse(text: String) -> KnownHosts {
    KnownHosts::parse(&[Source {
        file: "known_hosts".into(),
        text,
    }])
}

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).expect("a fixture")
}

#[cfg(test)]
#[test]
fn what_a_shell_does() {
    let one = |word: &str| Some(vec!["x".to_owned(), word.to_owned()]);
    assert_eq!(words("x 'a b'"), one("a b"));
    assert_eq!(words("x 'a'\\''b'"), one("a'b"));
    assert_eq!(words("x ''"), one(""));
    for wrong in [
        "x 'a", "x $a", "x a;b", "x a\nb", "x \"a\"", "x `a`", "x ~", "x \\",
    ] {
        assert_eq!(words(wrong), None, "{wrong}");
    }
}
