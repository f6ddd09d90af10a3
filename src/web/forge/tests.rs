//! Each forge's own examples, and what a hostile sender makes of them.

#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use hyper::header::{HeaderName, HeaderValue};

use super::*;
use crate::base::name::AbsPath;

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
    From::GitLab {
        token_file: a_file(),
    }
}

fn bearer() -> From {
    From::Bearer {
        token_file: a_file(),
    }
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
    let expected = |value: String, from: &From, name: &str| expect(from, &headers(&[(name, &value), JSON])).unwrap();
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
    bitbucket_hello.prove(&bitbucket(), &keys, b"Hello World!").unwrap();
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
        for (now, why) in [(timestamp + 301, "minutes old"), (timestamp - 301, "minutes ahead")] {
            let refusal = verdict(&standard(), &bare, &pairs, body.as_bytes(), now).unwrap_err();
            assert_eq!(refusal.status, 400);
            assert!(refusal.why.contains(why), "{}", refusal.why);
        }
    }
}

#[test]
fn what_pushes_say() {
    const ZEROS: &str = "0000000000000000000000000000000000000000";
    let key = "k";
    let keys = [Secret::of(key)];
    let gone = format!(r#"{{"ref":"refs/heads/x","after":"{ZEROS}"}}"#);
    let azure_gone = format!(
        r#"{{"id":"a-1","eventType":"git.push","resource":{{"refUpdates":[{{"name":"refs/heads/x","newObjectId":"{ZEROS}"}}]}}}}"#
    );
    let main = pushed("refs/heads/main", false);
    let deep = format!(
        r#"{{"x":{}1{},"ref":"refs/heads/main"}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let long = format!("refs/heads/{}", "x".repeat(1 << 20));
    let long_body = format!(r#"{{"ref":"{long}"}}"#);
    for (from, event, body, expected) in [
        (
            github(),
            "push",
            r#"{"ref":"refs/heads/main","after":"0a","deleted":false,"commits":[{"id":1}]}"#,
            main.clone(),
        ),
        (github(), "push", r#"{"ref":"refs/tags/main"}"#, pushed("refs/tags/main", false)),
        (
            github(),
            "push",
            r#"{"ref":"refs/heads/x","deleted":true}"#,
            pushed("refs/heads/x", true),
        ),
        (github(), "push", &gone, pushed("refs/heads/x", true)),
        (github(), "push", &deep, main.clone()),
        (github(), "push", &long_body, pushed(&long, false)),
        (github(), "ping", r#"{"zen":"Keep it"}"#, Event::Ping),
        (github(), "issues", r#"{"changes":{}}"#, Event::Other("issues".into())),
        (gitea(), "push", r#"{"ref":"refs/heads/main","before":""}"#, main.clone()),
        (gitea(), "create", r#"{"ref":"main"}"#, Event::Other("create".into())),
        (gitea(), "push", &gone, pushed("refs/heads/x", true)),
        (gitlab(), "Push Hook", r#"{"ref":"refs/heads/main","checkout_sha":null}"#, main.clone()),
        (gitlab(), "Tag Push Hook", &gone, pushed("refs/heads/x", true)),
        (
            gitlab(),
            "System Hook",
            r#"{"event_name":"push","ref":"refs/heads/main"}"#,
            main.clone(),
        ),
        (
            gitlab(),
            "System Hook",
            r#"{"event_name":"project_create"}"#,
            Event::Other("project_create".into()),
        ),
        (
            bitbucket(),
            "repo:push",
            r#"{"push":{"changes":[{"new":{"type":"branch","name":"refs/heads/main"},"old":null}]}}"#,
            pushed("refs/heads/refs/heads/main", false),
        ),
        (
            bitbucket(),
            "repo:push",
            r#"{"push":{"changes":[{"new":null,"old":{"type":"annotated_tag","name":"v1"}}]}}"#,
            pushed("refs/tags/v1", true),
        ),
        (
            bitbucket(),
            "repo:push",
            r#"{"push":{"changes":[{"new":null,"old":null}]}}"#,
            Event::Push(Vec::new()),
        ),
        (
            bitbucket(),
            "repo:refs_changed",
            r#"{"changes":[{"ref":{"id":"refs/heads/main","displayId":"main"},"type":"DELETE"}]}"#,
            pushed("refs/heads/main", true),
        ),
        (bitbucket(), "diagnostics:ping", r#"{"test":true}"#, Event::Ping),
        (bearer(), "", "", Event::Push(Vec::new())),
        (bearer(), "", "branch=main", Event::Push(Vec::new())),
        (bearer(), "", r#"{"ref":"refs/heads/main"}"#, main.clone()),
        (basic(), "", r#"{"eventType":"git.pullrequest.created"}"#, Event::Other("git.pullrequest.created".into())),
        (basic(), "", &azure_gone, pushed("refs/heads/x", true)),
        (hmac("sha256="), "", "not JSON", Event::Push(Vec::new())),
        (hmac(""), "", r#"{"ref":"refs/heads/main"}"#, main.clone()),
    ] {
        let hex = sign(key, body.as_bytes());
        let prefixed = format!("sha256={hex}");
        let signature = match &from {
            From::Hmac { prefix, .. } if prefix.is_empty() => hex.as_str(),
            From::Gitea { .. } => hex.as_str(),
            _ => prefixed.as_str(),
        };
        let proof = match &from {
            From::GitHub { .. } => ("X-Hub-Signature-256", signature),
            From::Gitea { .. } => ("X-Gogs-Signature", signature),
            From::Bitbucket { .. } => ("X-Hub-Signature", signature),
            From::GitLab { .. } => ("X-Gitlab-Token", key),
            From::Bearer { .. } => ("Authorization", "bearer  k"),
            From::Basic { .. } => ("Authorization", "Basic bWU6aw=="),
            From::Hmac { .. } | From::StandardWebhooks { .. } => ("x-signature", signature),
        };
        let mut pairs = vec![proof, ("content-type", "Application/JSON; charset=utf-8")];
        let names = header::names(&from);
        if let Some(name) = names.events.last() {
            pairs.push((name, event));
        }
        pairs.push((names.ids[0], "id-1"));
        let delivery = verdict(&from, &keys, &pairs, body.as_bytes(), 0).unwrap();
        assert_eq!(delivery.event, expected, "{from:?} {body:.80}");
        assert_eq!(delivery.id.as_deref(), Some("id-1"));
    }
    let pairs = [("Authorization", "Basic bWU6aw==")];
    let delivery = verdict(&basic(), &keys, &pairs, azure_gone.as_bytes(), 0).unwrap();
    assert_eq!(delivery.id.as_deref(), Some("a-1"));
}

#[test]
fn what_is_not_proven_is_refused() {
    let keys = [Secret::of(GITHUB_SECRET)];
    let signature = format!("sha256={HELLO}");
    let twice = format!("sha256={signature}");
    let listed = format!("{signature}, {signature}");
    let padded = format!("sha256= {HELLO}");
    let short = &signature[..signature.len() - 1];
    let long = format!("{signature}0");
    let capital = format!("SHA256={HELLO}");
    let name = "X-Hub-Signature-256";
    for (pairs, why) in [
        (vec![], "no X-Hub-Signature-256: has the webhook a secret?"),
        (vec![(name, "")], "X-Hub-Signature-256 is empty"),
        (vec![(name, " \t ")], "X-Hub-Signature-256 is empty"),
        (vec![(name, "sha256=")], "X-Hub-Signature-256 is empty"),
        (vec![(name, signature.as_str()), (name, signature.as_str())], "is there twice"),
        (vec![(name, signature.as_str()), (name, "")], "is there twice"),
        (vec![(name, HELLO)], "does not begin with `sha256=`"),
        (vec![(name, &capital)], "does not begin with `sha256=`"),
        (vec![(name, &twice)], "is not 64 hexadecimal digits"),
        (vec![(name, &listed)], "is not 64 hexadecimal digits"),
        (vec![(name, &padded)], "is not 64 hexadecimal digits"),
        (vec![(name, short)], "is not 64 hexadecimal digits"),
        (vec![(name, &long)], "is not 64 hexadecimal digits"),
        (vec![(name, "sha256=é")], "is not 64 hexadecimal digits"),
        (vec![("X-Hub-Signature", "sha1=00")], "SHA-1"),
        (vec![("X-Gitlab-Token", "x"), ("X-Gitlab-Event", "Push Hook")], "one of GitLab's"),
        (vec![("X-Event-Key", "repo:push")], "one of Bitbucket's"),
        (vec![("webhook-signature", "v1,x")], "StandardWebhooks"),
    ] {
        let (status, said) = refused(&github(), &keys, &pairs, b"Hello, World!");
        assert_eq!(status, 401, "{pairs:?}");
        assert!(said.contains(why), "{pairs:?}: {said}");
    }
    let right = [(name, signature.as_str()), JSON];
    assert_eq!(refused(&github(), &keys, &right, b"hello, World!"), (401, MISMATCH.into()));
    assert_eq!(refused(&github(), &[], &right, b"Hello, World!"), (401, MISMATCH.into()));
    // What was not signed is looked at after that.
    assert_eq!(refused(&github(), &keys, &right, b"Hello, World!").0, 400);
    for (kind, why) in [
        (None, "no Content-Type"),
        (Some("application/x-www-form-urlencoded"), "sends a form"),
        (Some("text/plain"), "not application/json"),
        (Some("application/jsonp"), "not application/json"),
        (Some(""), "there twice, or empty"),
    ] {
        let mut pairs = vec![(name, signature.as_str())];
        pairs.extend(kind.map(|kind| ("Content-Type", kind)));
        let (status, said) = refused(&github(), &keys, &pairs, b"Hello, World!");
        assert_eq!(status, 415);
        assert!(said.contains(why), "{kind:?}: {said}");
    }
}

#[test]
fn gitea_without_a_secret_is_refused() {
    let keys = [Secret::of("k")];
    let body = br#"{"ref":"refs/heads/main"}"#;
    let right = sign("k", body);
    let other = sign("x", body);
    for (pairs, why) in [
        (vec![("X-Gitea-Signature", "")], "X-Gitea-Signature is empty"),
        (
            vec![("X-Gitea-Signature", ""), ("X-Hub-Signature-256", "sha256=")],
            "X-Gitea-Signature is empty",
        ),
        (
            vec![("X-Gitea-Signature", right.as_str()), ("X-Forgejo-Signature", "")],
            "X-Forgejo-Signature is empty",
        ),
        (
            vec![("X-Gitea-Signature", right.as_str()), ("X-Gogs-Signature", &other)],
            "are not the same",
        ),
        (vec![("X-Gitea-Signature", &other)], MISMATCH),
        (vec![("X-Hub-Signature-256", "sha256=00")], "no X-Gitea-Signature"),
    ] {
        let pairs: Vec<_> = pairs.into_iter().chain([JSON, ("X-Gitea-Event", "push")]).collect();
        let (status, said) = refused(&gitea(), &keys, &pairs, body);
        assert_eq!(status, 401);
        assert!(said.contains(why), "{pairs:?}: {said}");
    }
}

#[test]
fn standard_webhooks_that_are_not_proven_are_refused() {
    let keys = [Secret::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let body = br#"{"test": 2432232314}"#;
    let many = "v1,x ".repeat(16) + right;
    for (id, timestamp, signature, why) in [
        ("", "1614265330", right, "webhook-id is empty"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "", right, "webhook-timestamp is empty"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "+1614265330", right, "not a number"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "01614265330", right, "not a number"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330.0", right, "not a number"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "99999999999999999999", right, "not a number"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265331", right, MISMATCH),
        ("msg_p5jXN8AQM9LWM0D4loKWxJel", "1614265330", right, MISMATCH),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "", "webhook-signature is empty"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,", "holds no `v1,`"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", &right[3..], "holds no `v1,`"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9S**", "holds no `v1,`"),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", &many, "holds no `v1,`"),
    ] {
        let pairs = [
            ("Webhook-Id", id),
            ("Webhook-Timestamp", timestamp),
            ("Webhook-Signature", signature),
            JSON,
        ];
        let (status, said) = refused(&standard(), &keys, &pairs, body);
        assert_eq!(status, 401, "{pairs:?}: {said}");
        assert!(said.contains(why), "{pairs:?}: {said}");
    }
    let usable = usable(&standard());
    for (text, is_usable) in [
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
        ("whsec_", false),
        ("whsec_*", false),
        ("my secret", false),
    ] {
        assert_eq!(usable(&Secret::of(text)).is_ok(), is_usable, "{text}");
    }
}

#[test]
fn tokens_and_passwords_that_are_not_ours_are_refused() {
    let keys = [Secret::of("s3cret")];
    for (from, pairs, why) in [
        (gitlab(), vec![], "no X-Gitlab-Token"),
        (gitlab(), vec![("X-Gitlab-Token", "")], "X-Gitlab-Token is empty"),
        (gitlab(), vec![("X-Gitlab-Token", "s3cret "), JSON], "the token is another one"),
        (
            gitlab(),
            vec![("X-Gitlab-Token", "s3cret"), ("X-Gitlab-Token", "s3cret"), JSON],
            "is there twice",
        ),
        (bearer(), vec![], "no Authorization"),
        (bearer(), vec![("Authorization", "s3cret")], "does not begin with `Bearer`"),
        (bearer(), vec![("Authorization", "Bearer")], "has nothing behind `Bearer`"),
        (bearer(), vec![("Authorization", "Bearer   ")], "has nothing behind `Bearer`"),
        (bearer(), vec![("Authorization", "Bearers3cret")], "does not begin with"),
        (bearer(), vec![("Authorization", "Bearer s3cre")], "the token is another one"),
        (basic(), vec![("Authorization", "Bearer s3cret")], "does not begin with `Basic`"),
        (basic(), vec![("Authorization", "Basic *")], "in Base64"),
        (basic(), vec![("Authorization", "Basic bWU=")], "in Base64"),
        (basic(), vec![("Authorization", "Basic bWU6")], "an empty password"),
        // You:s3cret, me:x.
        (basic(), vec![("Authorization", "Basic WW91OnMzY3JldA==")], "the user is another one"),
        (basic(), vec![("Authorization", "Basic bWU6eA==")], "the password is another one"),
    ] {
        let (status, said) = refused(&from, &keys, &pairs, b"{}");
        assert_eq!(status, 401, "{pairs:?}: {said}");
        assert!(said.contains(why), "{pairs:?}: {said}");
        assert!(!said.contains("s3cret"));
    }
    let shown = format!("{:?}", expect(&bearer(), &headers(&[("Authorization", "Bearer s3cret")])));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn bodies_that_say_nothing_are_refused_once_they_are_proven() {
    let keys = [Secret::of("k")];
    for (body, why) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{} {}", "not JSON"),
        ("payload=%7B%7D", "not JSON"),
        ("{}", "not what this forge sends"),
        ("[]", "not what this forge sends"),
        (r#"{"ref":null}"#, "not what this forge sends"),
        (r#"{"ref":["refs/heads/main"]}"#, "not what this forge sends"),
        (r#"{"ref":"refs/heads/a","ref":"refs/heads/b"}"#, "not what this forge sends"),
    ] {
        let signature = format!("sha256={}", sign("k", body.as_bytes()));
        let pairs = [
            ("X-Hub-Signature-256", signature.as_str()),
            JSON,
            ("X-GitHub-Event", "push"),
        ];
        let (status, said) = refused(&github(), &keys, &pairs, body.as_bytes());
        assert_eq!(status, 400, "{body}");
        assert!(said.contains(why), "{body}: {said}");
    }
    let signature = format!("sha256={}", sign("k", b"{}"));
    let signed = ("X-Hub-Signature-256", signature.as_str());
    for (events, why) in [
        (&[][..], "no X-GitHub-Event"),
        (&["push", "ping"][..], "X-GitHub-Event is there twice"),
        (&[""][..], "X-GitHub-Event is empty"),
    ] {
        let mut pairs = vec![signed, JSON];
        pairs.extend(events.iter().map(|event| ("X-GitHub-Event", *event)));
        let (status, said) = refused(&github(), &keys, &pairs, b"{}");
        assert_eq!(status, 400);
        assert!(said.contains(why), "{events:?}: {said}");
    }
}

#[test]
fn only_pushes_to_the_refs_concern_a_webhook() {
    let refs = ["refs/heads/main".to_owned(), "refs/tags/v1".to_owned()];
    let push = |names: &[(&str, bool)]| -> Vec<Pushed> {
        let pushed = |(name, is_deleted): &(&str, bool)| Pushed {
            name: (*name).into(),
            is_deleted: *is_deleted,
        };
        names.iter().map(pushed).collect()
    };
    for (names, with_refs, without) in [
        (&[][..], Concern::Yes, Concern::Yes),
        (&[("refs/heads/main", false)][..], Concern::Yes, Concern::Yes),
        (&[("refs/heads/main", true)][..], Concern::Deleted, Concern::Deleted),
        (&[("refs/tags/main", false)][..], Concern::OtherRef, Concern::Yes),
        (&[("main", false)][..], Concern::OtherRef, Concern::Yes),
        (&[("refs/heads/refs/heads/main", false)][..], Concern::OtherRef, Concern::Yes),
        (&[("refs/heads/Main", false)][..], Concern::OtherRef, Concern::Yes),
        (&[("refs/heads/x", true), ("refs/tags/v1", false)][..], Concern::Yes, Concern::Yes),
        (&[("refs/heads/main", true), ("refs/heads/x", false)][..], Concern::Deleted, Concern::Yes),
    ] {
        let pushed = push(names);
        assert_eq!(concern(Some(&refs), &pushed), with_refs, "{names:?}");
        assert_eq!(concern(None, &pushed), without, "{names:?}");
    }
}

/// An id proves nothing: of any length, it is only compared.
#[test]
fn ids_of_any_kind_are_no_reason_to_refuse() {
    let keys = [Secret::of("k")];
    let long = "x".repeat(10_000);
    let signature = format!("sha256={}", sign("k", b"{}"));
    for (ids, expected) in [
        (vec![long.as_str()], Some(long.as_str())),
        (vec!["a", "b"], None),
        (vec![""], None),
        (vec![], None),
    ] {
        let mut pairs = vec![
            ("X-Hub-Signature-256", signature.as_str()),
            JSON,
            ("X-GitHub-Event", "ping"),
        ];
        pairs.extend(ids.iter().map(|id| ("X-GitHub-Delivery", *id)));
        let delivery = verdict(&github(), &keys, &pairs, b"{}", 0).unwrap();
        assert_eq!(delivery.id.as_deref(), expected);
    }
}
