//! What deliveries say.

use super::*;

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
        (
            github(),
            "push",
            r#"{"ref":"refs/tags/main"}"#,
            pushed("refs/tags/main", false),
        ),
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
        (
            github(),
            "issues",
            r#"{"changes":{}}"#,
            Event::Other("issues".into()),
        ),
        (
            gitea(),
            "push",
            r#"{"ref":"refs/heads/main","before":""}"#,
            main.clone(),
        ),
        (
            gitea(),
            "create",
            r#"{"ref":"main"}"#,
            Event::Other("create".into()),
        ),
        (gitea(), "push", &gone, pushed("refs/heads/x", true)),
        (
            gitlab(),
            "Push Hook",
            r#"{"ref":"refs/heads/main","checkout_sha":null}"#,
            main.clone(),
        ),
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
        (
            basic(),
            "",
            r#"{"eventType":"git.pullrequest.created"}"#,
            Event::Other("git.pullrequest.created".into()),
        ),
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
        (
            &[("refs/heads/main", true)][..],
            Concern::Deleted,
            Concern::Deleted,
        ),
        (&[("refs/tags/main", false)][..], Concern::OtherRef, Concern::Yes),
        (&[("main", false)][..], Concern::OtherRef, Concern::Yes),
        (
            &[("refs/heads/refs/heads/main", false)][..],
            Concern::OtherRef,
            Concern::Yes,
        ),
        (&[("refs/heads/Main", false)][..], Concern::OtherRef, Concern::Yes),
        (
            &[("refs/heads/x", true), ("refs/tags/v1", false)][..],
            Concern::Yes,
            Concern::Yes,
        ),
        (
            &[("refs/heads/main", true), ("refs/heads/x", false)][..],
            Concern::Deleted,
            Concern::Yes,
        ),
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
