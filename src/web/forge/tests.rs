//! Each forge's own examples, and what a hostile sender makes of them.

#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use hyper::header::{HeaderName, HeaderValue};

use super::*;
use crate::base::name::AbsPath;

#[path = "tests/payload.rs"]
mod payload_tests;
#[path = "tests/refused.rs"]
mod refused_tests;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

fn github() -> From {
    From::GitHub {
        secret_files: Vec::new(),
    }
}

fn gitea() -> From {
    From::Gitea {
        secret_files: Vec::new(),
    }
}

fn bitbucket() -> From {
    From::Bitbucket {
        secret_files: Vec::new(),
    }
}

fn standard() -> From {
    From::StandardWebhooks {
        secret_files: Vec::new(),
    }
}

fn a_file() -> AbsPath {
    AbsPath::resolve(Path::new("/"), Path::new("file")).unwrap()
}

fn gitlab() -> From {
    From::GitLab { token_file: a_file() }
}

fn bearer() -> From {
    From::Bearer { token_file: a_file() }
}

fn basic() -> From {
    From::Basic {
        user: "me".into(),
        password_file: a_file(),
    }
}

fn hmac(prefix: &str) -> From {
    From::Hmac {
        header: "X-Signature".into(),
        prefix: prefix.into(),
        secret_files: Vec::new(),
    }
}

/// All of it, as the receiver does it.
fn verdict(
    from: &From,
    secrets: &[Secret],
    pairs: &[(&str, &str)],
    body: &[u8],
    now: u64,
) -> Result<Delivery, Refusal> {
    let expected = expect(from, &headers(pairs))?;
    expected.prove(from, secrets, body)?;
    expected.read(from, body, UNIX_EPOCH + Duration::from_secs(now))
}

/// The refusal, as status and reason.
fn refused(from: &From, secrets: &[Secret], pairs: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let refusal = verdict(from, secrets, pairs, body, 1_614_265_330).unwrap_err();
    (refusal.status, refusal.why.into())
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const GITHUB_SECRET: &str = "It's a Secret to Everybody";
const HELLO: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

/// The signature of `body` in hexadecimal, by another way than the one that is tried.
fn sign(key: &str, body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    let tag = ring::hmac::sign(&key, body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pushed(name: &str, is_deleted: bool) -> Event {
    Event::Push(vec![Pushed {
        name: name.into(),
        is_deleted,
    }])
}

#[test]
fn the_examples_of_the_forges() {
    let key = Secret::of(GITHUB_SECRET);
    let expected =
        |value: String, from: &From, name: &str| expect(from, &headers(&[(name, &value), JSON])).unwrap();
    let github_hello = expected(format!("sha256={HELLO}"), &github(), "X-Hub-Signature-256");
    github_hello
        .prove(&github(), std::slice::from_ref(&key), b"Hello, World!")
        .unwrap();
    let bitbucket_hello = expected(
        "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9".into(),
        &bitbucket(),
        "X-Hub-Signature",
    );
    let keys = [Secret::of("another"), key];
    bitbucket_hello
        .prove(&bitbucket(), &keys, b"Hello World!")
        .unwrap();
    // Hexadecimal digits may be capitals.
    let capitals = expected(
        format!("sha256={}", HELLO.to_uppercase()),
        &github(),
        "X-Hub-Signature-256",
    );
    capitals.prove(&github(), &keys, b"Hello, World!").unwrap();
    for (key, id, timestamp, body, signature) in [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=",
            "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
            1_700_000_000,
            r#"{"object_kind":"push"}"#,
            "v1,68n7sQVzNQF7jew9KS2HTT9NVpOYy2A5oNqzWGa8QlM=",
        ),
    ] {
        let timestamp_text = timestamp.to_string();
        let signatures = format!("v1a,abc v2,{signature} v1,AAAA {signature}");
        let pairs = [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp_text.as_str()),
            ("webhook-signature", signatures.as_str()),
            JSON,
        ];
        let keys = [Secret::of("whsec_YW5vdGhlcg=="), Secret::of(key)];
        let delivery = verdict(&standard(), &keys, &pairs, body.as_bytes(), timestamp + 300).unwrap();
        assert_eq!(delivery.id.as_deref(), Some(id));
        assert_eq!(delivery.event, Event::Push(Vec::new()));
        let bare = [Secret::of(key.trim_start_matches("whsec_"))];
        verdict(&standard(), &bare, &pairs, body.as_bytes(), timestamp - 300).unwrap();
        for (now, why) in [
            (timestamp + 301, "minutes old"),
            (timestamp - 301, "minutes ahead"),
        ] {
            let refusal = verdict(&standard(), &bare, &pairs, body.as_bytes(), now).unwrap_err();
            assert_eq!(refusal.status, 400);
            assert!(refusal.why.contains(why), "{}", refusal.why);
        }
    }
}
