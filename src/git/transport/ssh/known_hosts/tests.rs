//! The rules of sshd(8), line by line; where ssh-keygen is there, it judges which lines are about a host.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::process::Command;

use super::*;

const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+Wjn4+4Fcvl2JlKpggT+wCRxpSvtqqpVrQrKN1/A22";
const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHeLC1lWiCYrXsf/85O/pkbUFZ6OGIt49PX3nw8iRoXE";
const RSA: &str = include_str!("../../../../../fixtures/ssh/rsa.pub");

fn known(text: &str) -> KnownHosts {
    KnownHosts::parse(&[Source {
        file: "f".into(),
        text: text.into(),
    }])
}

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).unwrap()
}

fn host(name: &str, port: u16) -> Host<'_> {
    Host { name, port }
}

fn at(line: usize) -> Line {
    Line {
        file: "f".into(),
        line,
    }
}

#[test]
fn verdicts() {
    use Verdict::{Changed, Known, Revoked, Unknown};
    let rsa = RSA.trim();
    for (text, name, port, expected) in [
        ("", "h", 22, Unknown),
        ("h A", "h", 22, Known),
        ("H A", "h", 22, Known),
        ("h\tA", "h", 22, Known),
        ("  h   A a comment of words", "h", 22, Known),
        ("# h A\n\n \t\nh A\r\n", "h", 22, Known),
        ("h,192.0.2.1 A", "192.0.2.1", 22, Known),
        ("h A", "h.example", 22, Unknown),
        ("h B", "h", 22, Changed(at(1))),
        ("h B\nh A", "h", 22, Known),
        ("h A\nh B", "h", 22, Known),
        // As OpenSSH: a key of another kind is one that differs; one of the same kind is named first.
        ("h RSA", "h", 22, Changed(at(1))),
        ("h RSA\n\nh B", "h", 22, Changed(at(3))),
        ("*.example A", "h.example", 22, Known),
        ("*.example A", "example", 22, Unknown),
        ("h?.example A", "h1.example", 22, Known),
        ("h?.example A", "h.example", 22, Unknown),
        ("*.example,!bad.example A", "h.example", 22, Known),
        ("*.example,!bad.example A", "bad.example", 22, Unknown),
        ("!bad.example,*.example A", "bad.example", 22, Unknown),
        ("!bad.example A", "h", 22, Unknown),
        ("* A", "h", 2222, Known),
        ("[h]:2222 A", "h", 2222, Known),
        ("[h]:2222 A", "h", 22, Unknown),
        ("[h]:2222 A", "h", 2223, Unknown),
        ("[*.example]:2222 A", "h.example", 2222, Known),
        ("[::1]:2222 A", "::1", 2222, Known),
        ("::1 A", "::1", 22, Known),
        // Without the port, it is as good; but a key that differs there says nothing.
        ("h A", "h", 2222, Known),
        ("h B", "h", 2222, Unknown),
        ("[h]:2222 B\nh A", "h", 2222, Changed(at(1))),
        ("h A\n@revoked h A", "h", 22, Revoked(at(2))),
        ("h A\n@revoked\t* A", "h", 22, Revoked(at(2))),
        ("h A\n@revoked other A", "h", 22, Known),
        ("h A\n@revoked h B", "h", 22, Known),
        ("@revoked h A", "h", 22, Revoked(at(1))),
        // An authority's key is no host's key.
        ("@cert-authority h A", "h", 22, Unknown),
        ("@cert-authority h B", "h", 22, Unknown),
        // Lines that are not understood.
        ("@other h A", "h", 22, Unknown),
        ("@revoked @revoked h A", "h", 22, Unknown),
        ("h\nh ssh-ed25519\nh ssh-ed25519 !\nh A", "h", 22, Known),
        (
            "h ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIN+Wjn4+4Fcvl2JlKpggT+wCRxpSvtqqpVrQrKN1/A22",
            "h",
            22,
            Unknown,
        ),
        ("h 1024 35 1234567", "h", 22, Unknown),
    ] {
        let text: String = text
            .split_inclusive([' ', '\t', '\r', '\n'])
            .map(|word| {
                let bare = word.trim_end();
                let key = match bare {
                    "A" => A,
                    "B" => B,
                    "RSA" => rsa,
                    other => other,
                };
                key.to_owned() + &word[bare.len()..]
            })
            .collect();
        assert_eq!(
            known(&text).verdict(host(name, port), &key(A)),
            expected,
            "{name}:{port} in\n{text}"
        );
    }
}

#[test]
fn hashed_names() {
    // ssh-keygen -H
    let line = |name: &str| {
        let (salt, secret) = (b"01234567890123456789", ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY);
        let hash = ring::hmac::sign(&ring::hmac::Key::new(secret, salt), name.as_bytes());
        format!(
            "|1|{}|{} {A}",
            BASE64_STANDARD.encode(salt),
            BASE64_STANDARD.encode(hash)
        )
    };
    let found = |text: &str, name, port| known(text).verdict(host(name, port), &key(A));
    assert_eq!(found(&line("h.example"), "h.example", 22), Verdict::Known);
    assert_eq!(found(&line("h.example"), "i.example", 22), Verdict::Unknown);
    assert_eq!(
        found(&line("[h.example]:2222"), "h.example", 2222),
        Verdict::Known
    );
    assert_eq!(
        found(&line("[h.example]:2222"), "h.example", 22),
        Verdict::Unknown
    );
    for bad in ["|1|", "|1|AA|BB", "|2|AAAA|AAAA", "|1|AAAA", "|"] {
        let text = format!("{bad} {A}");
        assert_eq!(found(&text, "h", 22), Verdict::Unknown);
        assert!(known(&text).skipped.is_some(), "{bad}");
    }
}

#[test]
fn the_first_line_that_is_not_understood_is_remembered() {
    let text = format!("# x\nh {A}\nh ssh-ed25519 AAAA\n@x h {A}\n");
    assert_eq!(known(&text).skipped, Some((at(3), "its key cannot be read")));
    assert_eq!(known(&format!("# x\n\nh {A}\n")).skipped, None);
}

#[test]
fn kinds_of_keys() {
    let text = format!("h {A}\nh {RSA}\n[h]:2222 {A}\n@cert-authority *.x {A}\n@revoked h {B}\n");
    let known = known(&text);
    let rsa = Algorithm::Rsa { hash: None };
    assert_eq!(known.algorithms(host("h", 22)), [Algorithm::Ed25519, rsa.clone()]);
    assert_eq!(known.algorithms(host("h", 2222)), [Algorithm::Ed25519, rsa]);
    assert_eq!(known.algorithms(host("i", 22)), []);
    assert!(known.has_authority(host("a.x", 22)));
    assert!(!known.has_authority(host("h", 22)));
}

#[test]
fn no_pattern_takes_long() {
    let text = format!("{}b {A}", "*a".repeat(5000));
    let name = "a".repeat(5000);
    assert_eq!(known(&text).verdict(host(&name, 22), &key(A)), Verdict::Unknown);
}

/// Random patterns over few letters, so that many match.
#[test]
fn as_ssh_keygen_finds_hosts() {
    if !crate::machine::need("ssh-keygen") {
        return;
    }
    let mut random = fastrand::Rng::with_seed(crate::machine::seed());
    let mut word = |letters: &str, most: usize| -> String {
        let letters: Vec<char> = letters.chars().collect();
        (0..random.usize(1..=most))
            .map(|_| letters[random.usize(..letters.len())])
            .collect()
    };
    let dir = crate::machine::tempdir().unwrap();
    let file = dir.path().join("known_hosts");
    let lines: Vec<String> = (0..60).map(|_| format!("{} {A}", word("ab.*?,!", 8))).collect();
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let known = known(&lines.join("\n"));
    let mut hits = 0;
    for _ in 0..25 {
        let name = word("ab.", 4);
        let output = Command::new("ssh-keygen")
            .arg("-F")
            .arg(&name)
            .arg("-f")
            .arg(&file)
            .output()
            .unwrap();
        let theirs: Vec<usize> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.rsplit_once("found: line ")?.1.trim().parse().ok())
            .collect();
        let ours: Vec<usize> = known.of(&name, Marker::Key).map(|entry| entry.at.line).collect();
        assert_eq!(ours, theirs, "{name} in\n{}", lines.join("\n"));
        hits += ours.len();
    }
    assert!(hits > 10, "only {hits}");
}
