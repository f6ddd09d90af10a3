//! What to write into a forge's form, for each webhook of a configuration.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::config::{Config, From, Listener, Webhook};
use crate::base::words::typed;

/// What to write into a forge's form for one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The webhook's path, and what it triggers.
    pub title: String,
    /// The form's fields, with their values.
    pub fields: Vec<(&'static str, String)>,
}

/// The forms for the webhooks of `config`.
pub fn explain(config: &Config) -> Vec<Explained> {
    let base = base(config);
    let explained = |(path, webhook): (&String, &Webhook)| Explained {
        title: format!("{path} triggers {}", webhook.trigger),
        fields: fields(&format!("{base}{path}"), webhook),
    };
    config.webhooks.iter().map(explained).collect()
}

/// The URL as far as the configuration tells it: the public name of this machine is not in it.
fn base(config: &Config) -> String {
    let own_tls = config.listen.iter().find_map(|listener| match listener {
        Listener::Http {
            addr, tls: Some(_), ..
        } => addr.rsplit_once(':').map(|(_, port)| port),
        _ => None,
    });
    match own_tls {
        Some("443") | None => "https://HOST".into(),
        Some(port) => format!("https://HOST:{port}"),
    }
}

fn fields(url: &str, webhook: &Webhook) -> Vec<(&'static str, String)> {
    let files: Vec<String> = webhook.from.files().iter().map(ToString::to_string).collect();
    let first_line = format!("the first line of {}", files.join(" or "));
    let umask = match webhook.from.files().first() {
        Some(file) if gives_its_group(file.as_path()) => "027",
        _ => "077",
    };
    let first = typed(files.first().cloned());
    // `set -C` keeps an existing secret, which the forge may already have; `umask` keeps other users from reading it.
    let make = |how: &str| format!("(set -C; umask {umask}; {how} >{first})");
    const RANDOM: &str = "head -c 32 /dev/urandom | base64";
    let mut fields = vec![("sent by", sender(&webhook.from).into()), ("URL", url.into())];
    match &webhook.from {
        From::GitHub { .. } | From::Gitea { .. } | From::Bitbucket { .. } => {
            fields.push(("content type", "application/json".into()));
            fields.push(("secret", first_line));
            fields.push(("make one", make(RANDOM)));
        }
        From::StandardWebhooks { .. } => {
            fields.push(("content type", "application/json".into()));
            fields.push((
                "signing token",
                format!("{first_line}; write it there if the forge makes it"),
            ));
            fields.push(("make one", make("echo whsec_$(head -c 32 /dev/urandom | base64)")));
        }
        From::GitLab { .. } => {
            fields.push(("secret token", first_line));
            fields.push(("make one", make(RANDOM)));
        }
        From::Bearer { .. } => {
            fields.push(("method", "POST".into()));
            fields.push(("Authorization", format!("Bearer, and {first_line}")));
            fields.push(("make one", make(RANDOM)));
        }
        From::Basic { user, .. } => {
            fields.push(("user", user.clone()));
            fields.push(("password", first_line));
            fields.push(("make one", make(RANDOM)));
        }
        From::Hmac { header, prefix, .. } => {
            fields.push(("method", "POST".into()));
            let signature = format!("{header}: {prefix}HMAC-SHA256 of the body, in hexadecimal");
            fields.push(("signature", signature));
            fields.push(("secret", first_line));
            fields.push(("make one", make(RANDOM)));
        }
    }
    fields.push(("events", events(&webhook.from).into()));
    if let Some(refs) = &webhook.refs {
        fields.push(("triggers", format!("for {} alone", refs.join(", "))));
    }
    fields
}

/// Whether a new `file` belongs to the group of its directory, as in docs/web.md: then that group may read it.
fn gives_its_group(file: &Path) -> bool {
    const SET_GROUP_ID: u32 = 0o2000;
    let dir = file.parent().and_then(|dir| fs::metadata(dir).ok());
    dir.is_some_and(|dir| dir.mode() & SET_GROUP_ID != 0)
}

fn sender(from: &From) -> &'static str {
    match from {
        From::GitHub { .. } => "GitHub: Settings, Webhooks, Add webhook",
        From::Gitea { .. } => "Gitea, Forgejo, Codeberg or Gogs: Settings, Webhooks, Add webhook",
        From::Bitbucket { .. } => "Bitbucket: Repository settings, Webhooks",
        From::StandardWebhooks { .. } => {
            "GitLab 19 or newer: Settings, Webhooks; or another sender of Standard Webhooks"
        }
        From::GitLab { .. } => "GitLab: Settings, Webhooks",
        From::Bearer { .. } => "a CI job, or any other sender of such a header",
        From::Basic { .. } => "Azure DevOps: Project settings, Service hooks, Web Hooks; or another sender",
        From::Hmac { .. } => "any sender that signs like that",
    }
}

fn events(from: &From) -> &'static str {
    match from {
        From::GitHub { .. } => "just the push event",
        From::Gitea { .. } => "push events",
        From::Bitbucket { .. } => "repository push",
        From::GitLab { .. } | From::StandardWebhooks { .. } => "push events, tag push events",
        From::Basic { .. } => "code pushed",
        From::Bearer { .. } | From::Hmac { .. } => "any event that is to trigger",
    }
}
