//! Reads the body of an authenticated delivery: the event, and the refs that it is about.
//!
//! Only a few fields are kept in memory, however large the body is. serde_json skips all others without recursion, however deep they
//! are.

use serde::{Deserialize, de::IgnoredAny};

use super::{From, Refusal};

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A push to these refs; empty if they are not known.
    Push(Vec<Pushed>),
    /// The webhook was created or is tested.
    Ping,
    /// Another event, in the forge's word.
    Other(String),
}

/// A ref that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its full name.
    pub name: String,
    /// Whether the push has deleted it.
    pub is_deleted: bool,
}

/// The refs in `pushed` that count for a webhook with `refs`; all of them, if it has none.
pub fn meant<'p>(refs: Option<&[String]>, pushed: &'p [Pushed]) -> Vec<&'p Pushed> {
    let is_meant = |pushed: &&Pushed| refs.is_none_or(|refs| refs.contains(&pushed.name));
    pushed.iter().filter(is_meant).collect()
}

/// Whether a push triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// It does.
    Yes,
    /// It does not, since it is to other refs.
    OtherRef,
    /// It does not, since it only deletes refs.
    Deleted,
}

/// Whether `pushed` triggers a webhook with `refs`. It does if the refs of the push are not known, since a run too many does no
/// harm, and a missing one does.
pub fn concern(refs: Option<&[String]>, pushed: &[Pushed]) -> Concern {
    let meant = meant(refs, pushed);
    if pushed.is_empty() || meant.iter().any(|pushed| !pushed.is_deleted) {
        Concern::Yes
    } else if meant.is_empty() {
        Concern::OtherRef
    } else {
        Concern::Deleted
    }
}

/// The event in `body`, which the headers call `event`; and the delivery's id, if it is in the body.
pub(super) fn event(
    from: &From,
    event: Option<&str>,
    body: &[u8],
) -> Result<(Event, Option<String>), Refusal> {
    let event = match (from, event) {
        (From::Bearer { .. } | From::Basic { .. } | From::Hmac { .. }, _) => return Ok(loose(body)),
        (From::StandardWebhooks { .. }, None) => {
            any(body)?;
            return Ok(loose(body));
        }
        (_, event) => event.ok_or_else(|| no_event(from))?,
    };
    let event = match (from, event) {
        (From::GitHub { .. } | From::Gitea { .. }, "push") => Event::Push(vec![single(body)?]),
        (From::GitHub { .. }, "ping") | (From::Bitbucket { .. }, "diagnostics:ping") => {
            any(body)?;
            Event::Ping
        }
        (From::GitLab { .. } | From::StandardWebhooks { .. }, "Push Hook" | "Tag Push Hook") => {
            Event::Push(vec![single(body)?])
        }
        (From::GitLab { .. } | From::StandardWebhooks { .. }, "System Hook") => system(body)?,
        (From::Bitbucket { .. }, "repo:push") => Event::Push(cloud(body)?),
        (From::Bitbucket { .. }, "repo:refs_changed") => Event::Push(data_center(body)?),
        (_, other) => {
            any(body)?;
            Event::Other(other.to_owned())
        }
    };
    Ok((event, None))
}

fn no_event(from: &From) -> Refusal {
    let name = match from {
        From::GitHub { .. } => "X-GitHub-Event",
        From::Gitea { .. } => "X-Gitea-Event",
        From::Bitbucket { .. } => "X-Event-Key",
        _ => "X-Gitlab-Event",
    };
    Refusal::useless(format!("no {name}: what has happened is not known"))
}

/// A push of GitHub, Gitea, Forgejo, Gogs or GitLab.
#[derive(Deserialize)]
struct Single {
    r#ref: String,
    #[serde(default)]
    deleted: Option<bool>,
    #[serde(default)]
    after: Option<String>,
}

impl std::convert::From<Single> for Pushed {
    fn from(push: Single) -> Self {
        Self {
            is_deleted: push.deleted == Some(true) || push.after.as_deref().is_some_and(is_none),
            name: push.r#ref,
        }
    }
}

/// GitLab's hook for a whole instance, which has the event in the body.
#[derive(Deserialize)]
struct System {
    event_name: String,
}

/// A push of Bitbucket Cloud: short names of refs, with their types.
#[derive(Deserialize)]
struct Cloud {
    push: CloudPush,
}

#[derive(Deserialize)]
struct CloudPush {
    changes: Vec<CloudChange>,
}

#[derive(Deserialize)]
struct CloudChange {
    new: Option<CloudRef>,
    old: Option<CloudRef>,
}

#[derive(Deserialize)]
struct CloudRef {
    name: String,
    r#type: String,
}

#[derive(Deserialize)]
struct DataCenter {
    changes: Vec<DataCenterChange>,
}

#[derive(Deserialize)]
struct DataCenterChange {
    r#ref: DataCenterRef,
    r#type: String,
}

#[derive(Deserialize)]
struct DataCenterRef {
    id: String,
}

/// A push in the form of GitHub or Azure DevOps; all fields are optional.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loose {
    r#ref: Option<String>,
    deleted: Option<bool>,
    after: Option<String>,
    event_type: Option<String>,
    id: Option<String>,
    resource: Option<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(default)]
    ref_updates: Vec<RefUpdate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefUpdate {
    name: String,
    new_object_id: String,
}

/// The event of Azure DevOps that is a push.
const AZURE_PUSH: &str = "git.push";

fn loose(body: &[u8]) -> (Event, Option<String>) {
    // The body may be anything: if it cannot be read, the refs are not known.
    let Ok(loose) = serde_json::from_slice::<Loose>(body) else {
        return (Event::Push(Vec::new()), None);
    };
    if let Some(event) = loose.event_type {
        if event != AZURE_PUSH {
            return (Event::Other(event), loose.id);
        }
        let updates = loose
            .resource
            .into_iter()
            .flat_map(|resource| resource.ref_updates);
        let pushed = updates.map(|update| Pushed {
            is_deleted: is_none(&update.new_object_id),
            name: update.name,
        });
        return (Event::Push(pushed.collect()), loose.id);
    }
    let pushed = loose.r#ref.map(|name| {
        Pushed::from(Single {
            r#ref: name,
            deleted: loose.deleted,
            after: loose.after,
        })
    });
    (Event::Push(pushed.into_iter().collect()), None)
}

fn single(body: &[u8]) -> Result<Pushed, Refusal> {
    json::<Single>(body).map(Pushed::from)
}

fn system(body: &[u8]) -> Result<Event, Refusal> {
    let System { event_name } = json(body)?;
    match event_name.as_str() {
        "push" | "tag_push" => Ok(Event::Push(vec![single(body)?])),
        _ => Ok(Event::Other(event_name)),
    }
}

fn cloud(body: &[u8]) -> Result<Vec<Pushed>, Refusal> {
    let changes = json::<Cloud>(body)?.push.changes;
    let pushed = changes.into_iter().filter_map(|change| {
        let is_deleted = change.new.is_none();
        let CloudRef { name, r#type } = change.new.or(change.old)?;
        let kind = if r#type.contains("tag") { "tags" } else { "heads" };
        Some(Pushed {
            name: format!("refs/{kind}/{name}"),
            is_deleted,
        })
    });
    Ok(pushed.collect())
}

fn data_center(body: &[u8]) -> Result<Vec<Pushed>, Refusal> {
    let changes = json::<DataCenter>(body)?.changes;
    let pushed = changes.into_iter().map(|change| Pushed {
        name: change.r#ref.id,
        is_deleted: change.r#type == "DELETE",
    });
    Ok(pushed.collect())
}

/// Check that the body is JSON.
fn any(body: &[u8]) -> Result<(), Refusal> {
    json::<IgnoredAny>(body).map(drop)
}

fn json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|err| {
        Refusal::useless(match err.classify() {
            serde_json::error::Category::Data => {
                "the body is JSON, but not what this forge sends for a push: is it from another forge?"
            }
            _ => "the body is not JSON",
        })
    })
}

/// Whether an object id is git's null id: all zeros.
fn is_none(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte == b'0')
}
