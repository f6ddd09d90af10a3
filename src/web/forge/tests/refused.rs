//! What a hostile sender tries, and what one does that is set up wrongly.

use super::*;

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
        (vec![], "no X-Hub-Signature-256: does the webhook have a secret?"),
        (vec![(name, "")], "X-Hub-Signature-256 is empty"),
        (vec![(name, " \t ")], "X-Hub-Signature-256 is empty"),
        (vec![(name, "sha256=")], "X-Hub-Signature-256 is empty"),
        (
            vec![(name, signature.as_str()), (name, signature.as_str())],
            "is there twice",
        ),
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
        (
            vec![("X-Gitlab-Token", "x"), ("X-Gitlab-Event", "Push Hook")],
            "a delivery of GitLab",
        ),
        (vec![("X-Event-Key", "repo:push")], "a delivery of Bitbucket"),
        (vec![("webhook-signature", "v1,x")], "StandardWebhooks"),
    ] {
        let (status, said) = refused(&github(), &keys, &pairs, b"Hello, World!");
        assert_eq!(status, 401, "{pairs:?}");
        assert!(said.contains(why), "{pairs:?}: {said}");
    }
    let right = [(name, signature.as_str()), JSON];
    assert_eq!(
        refused(&github(), &keys, &right, b"hello, World!"),
        (401, MISMATCH.into())
    );
    assert_eq!(
        refused(&github(), &[], &right, b"Hello, World!"),
        (401, MISMATCH.into())
    );
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
            vec![
                ("X-Gitea-Signature", right.as_str()),
                ("X-Gogs-Signature", &other),
            ],
            "are not the same",
        ),
        (vec![("X-Gitea-Signature", &other)], MISMATCH),
        (vec![("X-Hub-Signature-256", "sha256=00")], "no X-Gitea-Signature"),
    ] {
        let pairs: Vec<_> = pairs
            .into_iter()
            .chain([JSON, ("X-Gitea-Event", "push")])
            .collect();
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
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "",
            right,
            "webhook-timestamp is empty",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "+1614265330",
            right,
            "not a number",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "01614265330",
            right,
            "not a number",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330.0",
            right,
            "not a number",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "99999999999999999999",
            right,
            "not a number",
        ),
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265331", right, MISMATCH),
        ("msg_p5jXN8AQM9LWM0D4loKWxJel", "1614265330", right, MISMATCH),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "",
            "webhook-signature is empty",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "v1,",
            "holds no `v1,`",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            &right[3..],
            "holds no `v1,`",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "v1,g0hM9S**",
            "holds no `v1,`",
        ),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            &many,
            "holds no `v1,`",
        ),
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
        (
            gitlab(),
            vec![("X-Gitlab-Token", "s3cret "), JSON],
            "the token does not match",
        ),
        (
            gitlab(),
            vec![("X-Gitlab-Token", "s3cret"), ("X-Gitlab-Token", "s3cret"), JSON],
            "is there twice",
        ),
        (bearer(), vec![], "no Authorization"),
        (
            bearer(),
            vec![("Authorization", "s3cret")],
            "does not begin with `Bearer`",
        ),
        (
            bearer(),
            vec![("Authorization", "Bearer")],
            "has nothing after `Bearer`",
        ),
        (
            bearer(),
            vec![("Authorization", "Bearer   ")],
            "has nothing after `Bearer`",
        ),
        (
            bearer(),
            vec![("Authorization", "Bearers3cret")],
            "does not begin with",
        ),
        (
            bearer(),
            vec![("Authorization", "Bearer s3cre")],
            "the token does not match",
        ),
        (
            basic(),
            vec![("Authorization", "Bearer s3cret")],
            "does not begin with `Basic`",
        ),
        (basic(), vec![("Authorization", "Basic *")], "in Base64"),
        (basic(), vec![("Authorization", "Basic bWU=")], "in Base64"),
        (
            basic(),
            vec![("Authorization", "Basic bWU6")],
            "an empty password",
        ),
        // You:s3cret, me:x.
        (
            basic(),
            vec![("Authorization", "Basic WW91OnMzY3JldA==")],
            "the user does not match",
        ),
        (
            basic(),
            vec![("Authorization", "Basic bWU6eA==")],
            "the password does not match",
        ),
    ] {
        let (status, said) = refused(&from, &keys, &pairs, b"{}");
        assert_eq!(status, 401, "{pairs:?}: {said}");
        assert!(said.contains(why), "{pairs:?}: {said}");
        assert!(!said.contains("s3cret"));
    }
    let shown = format!(
        "{:?}",
        expect(&bearer(), &headers(&[("Authorization", "Bearer s3cret")]))
    );
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn bodies_that_say_nothing_are_refused_once_they_are_proven() {
    let keys = [Secret::of("k")];
    for (body, why) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        (r#"{"ref":"refs/heads/main"} {}"#, "not JSON"),
        ("payload=%7B%7D", "not JSON"),
        ("{}", "not what this forge sends"),
        ("[]", "not what this forge sends"),
        (r#"{"ref":null}"#, "not what this forge sends"),
        (r#"{"ref":["refs/heads/main"]}"#, "not what this forge sends"),
        (
            r#"{"ref":"refs/heads/a","ref":"refs/heads/b"}"#,
            "not what this forge sends",
        ),
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
