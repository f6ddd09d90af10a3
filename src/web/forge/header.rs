//! Headers of a delivery. Each must be there only once, and must not be empty.

use hyper::{HeaderMap, header::CONTENT_TYPE};

use super::{From, Refusal};

/// The names of a forge's headers.
pub(super) struct Names {
    /// Headers with the delivery's id; the first that is there counts.
    pub(super) ids: &'static [&'static str],
    /// Headers with the event; the first that is there counts.
    pub(super) events: &'static [&'static str],
}

pub(super) fn names(from: &From) -> Names {
    let (ids, events): (&'static [_], &'static [_]) = match from {
        From::GitHub { .. } => (&["X-GitHub-Delivery"], &["X-GitHub-Event"]),
        From::Gitea { .. } => (
            &["X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery"],
            &["X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event"],
        ),
        From::Bitbucket { .. } => (&["X-Request-UUID", "X-Request-Id"], &["X-Event-Key"]),
        From::GitLab { .. } => (&["Idempotency-Key", "X-Gitlab-Event-UUID"], &["X-Gitlab-Event"]),
        From::StandardWebhooks { .. } => (&["webhook-id"], &["X-Gitlab-Event"]),
        From::Bearer { .. } | From::Basic { .. } | From::Hmac { .. } => (&["Idempotency-Key"], &[]),
    };
    Names { ids, events }
}

/// The header `name`, which may be missing, but neither repeated nor empty.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(Refusal::stranger(format!("{name} is there twice")));
    }
    let value = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Refusal::stranger(format!("{name} is not text")))?;
    if value.trim().is_empty() {
        Err(empty(name))
    } else {
        Ok(Some(value))
    }
}

pub(super) fn missing(name: &str, hint: &str) -> Refusal {
    Refusal::stranger(format!("no {name}: {hint}"))
}

pub(super) fn empty(name: &str) -> Refusal {
    Refusal::stranger(format!("{name} is empty: does the webhook have a secret?"))
}

/// The delivery's id. A repeated or empty header counts as missing: the id proves nothing, it only saves a run.
pub(super) fn id(headers: &HeaderMap, names: &[&str]) -> Option<String> {
    let found = names.iter().map(|name| one(headers, name).ok().flatten());
    found.flatten().next().map(str::to_owned)
}

/// The event, in the forge's word.
pub(super) fn event(headers: &HeaderMap, names: &[&str]) -> Result<Option<String>, Refusal> {
    for name in names {
        match one(headers, name) {
            Ok(Some(event)) => return Ok(Some(event.to_owned())),
            Ok(None) => {}
            Err(refusal) => return Err(Refusal::useless(refusal.why)),
        }
    }
    Ok(None)
}

/// Check that Content-Type is JSON: some forges can send a form instead.
pub(super) fn json(headers: &HeaderMap) -> Result<(), Refusal> {
    let refused = |why: &'static str| {
        Err(Refusal {
            status: 415,
            why: why.into(),
        })
    };
    let kind = match one(headers, CONTENT_TYPE.as_str()) {
        Ok(Some(kind)) => kind.split(';').next().unwrap_or_default().trim(),
        Ok(None) => return refused("no Content-Type: the body must be application/json"),
        Err(_) => return refused("Content-Type is there twice, or empty"),
    };
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        refused("the webhook sends a form: choose the content type application/json in the forge")
    } else {
        refused("the body is not application/json: choose that content type in the forge")
    }
}

/// A hint for the configuration, if another forge seems to have sent the delivery.
pub(super) fn other_sender(from: &From, headers: &HeaderMap) -> Option<&'static str> {
    // Gitea also sends the headers of GitHub and Gogs, so it comes before them.
    let signs: [(&str, bool, &str); 5] = [
        (
            "webhook-signature",
            matches!(from, From::StandardWebhooks { .. }),
            "it looks like a delivery for from: StandardWebhooks(…)",
        ),
        (
            "x-gitea-event",
            // Gitea signs like GitHub as well.
            matches!(from, From::Gitea { .. } | From::GitHub { .. }),
            "it looks like a delivery of Gitea, for from: Gitea(…)",
        ),
        (
            "x-github-event",
            matches!(from, From::GitHub { .. } | From::Gitea { .. }),
            "it looks like a delivery of GitHub, for from: GitHub(…)",
        ),
        (
            "x-gitlab-event",
            matches!(from, From::GitLab { .. } | From::StandardWebhooks { .. }),
            "it looks like a delivery of GitLab, for from: GitLab(…), or StandardWebhooks(…) with a signing token",
        ),
        (
            "x-event-key",
            matches!(from, From::Bitbucket { .. }),
            "it looks like a delivery of Bitbucket, for from: Bitbucket(…)",
        ),
    ];
    let (_, is_own, hint) = signs.into_iter().find(|(name, ..)| headers.contains_key(*name))?;
    (!is_own).then_some(hint)
}
