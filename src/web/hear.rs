//! The receiver of webhooks: a delivery is authenticated and read, and becomes a trigger's name for the daemon; or it is refused.
//!
//! The headers are checked before the body is read. An unauthenticated sender gets only a status; the reason is for the operator.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_std::task::{self, JoinHandle};
use futures_lite::{FutureExt as _, future::pending};
use hyper::{
    Method, Request, StatusCode,
    body::{Body as _, Incoming},
    header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue},
};

use super::{
    answer::{self, Answer},
    client::Client,
    config::{Config, Webhook},
    daemon::Daemon,
    deliveries::{Delivered, Deliveries, Key, Outcome, shown},
    forge::{self, Concern, Event, Expected, Pushed, Refusal},
    secret::{Error, Secrets},
};
use crate::base::{
    event::Task,
    fault::{Failure, Kind},
    name::RunId,
    semaphore::Permit,
};

mod answered;
mod body;
mod note;

use body::{Body, Bounds};

/// A webhook with its secrets.
#[derive(Debug, Clone)]
pub struct Hook {
    path: Arc<str>,
    webhook: Arc<Webhook>,
    secrets: Arc<Secrets>,
    bounds: Bounds,
}

struct Received {
    /// Its identity, if the forge gave it an id.
    key: Option<Key>,
    /// The forge's id, safe to show.
    id: Option<String>,
    event: Event,
}

/// The webhooks of `config` by their paths. Each must have its secrets.
pub fn hooks(config: &Config) -> Result<BTreeMap<String, Hook>, Error> {
    let bounds = Bounds::new(config.max_body);
    let hook = |(path, webhook): (&String, &Webhook)| {
        let files = webhook.from.files().to_vec();
        let hook = Hook {
            path: path.as_str().into(),
            secrets: Arc::new(Secrets::read(files, forge::usable(&webhook.from))?),
            webhook: Arc::new(webhook.clone()),
            bounds: bounds.clone(),
        };
        Ok((path.clone(), hook))
    };
    config.webhooks.iter().map(hook).collect()
}

/// What is needed to handle a delivery even if its connection is lost.
struct Desk {
    hook: Hook,
    deliveries: Arc<Deliveries>,
    daemon: Daemon,
    /// The client of the connection.
    client: String,
    /// The process does not stop before it is dropped.
    _under_way: Option<Permit>,
}

/// A delivery that has been received.
struct Sent {
    expected: Expected,
    body: Body,
}

/// Answer `request`, which is for `hook`.
pub async fn hear(
    hook: &Hook,
    deliveries: &Arc<Deliveries>,
    daemon: &Daemon,
    request: Request<Incoming>,
    client: &Client,
) -> Answer {
    if request.method() != Method::POST {
        let answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
        return answer::with(answer, ALLOW, HeaderValue::from_static("POST"));
    }
    let desk = Desk {
        hook: hook.clone(),
        deliveries: deliveries.clone(),
        daemon: daemon.clone(),
        client: client.to_string(),
        _under_way: deliveries.begin(),
    };
    let result = match receive(hook, request).await {
        // On a thread, since reading a file of secrets may hang, and verifying a large body takes time.
        Ok(sent) => match task::spawn_blocking(move || desk.take(sent)).await {
            Ok(acting) => acting.or(admitted(client)).await,
            Err(outcome) => outcome,
        },
        Err(outcome) => desk.list(None, outcome),
    };
    answered::of(&hook.webhook, &result)
}

/// Admit `client`, which is authenticated. This never ends, so the caller races it with the delivery: if all places are taken, the
/// delivery is handled nevertheless.
async fn admitted<T>(client: &Client) -> T {
    client.admit().await;
    pending().await
}

/// Receive the body, unless the headers already show that the delivery is not valid.
async fn receive(hook: &Hook, request: Request<Incoming>) -> Result<Sent, Outcome> {
    let (head, body) = request.into_parts();
    hook.fits(&head.headers, &body).map_err(refused)?;
    let mut expected = forge::expect(&hook.webhook.from, &head.headers).map_err(refused)?;
    if expected.is_proven_by_headers() {
        let work = hook.clone();
        let prove = move || work.prove(&expected, b"").map(|()| expected);
        expected = task::spawn_blocking(prove).await?;
    }
    let read = hook.bounds.read(body).await;
    let body = read.map_err(|err| hook.unread(&err))?;
    Ok(Sent { expected, body })
}

impl Desk {
    /// Authenticate, read and handle what was `sent`. The task goes on even if the connection is lost. Blocks.
    fn take(self, sent: Sent) -> Result<JoinHandle<Outcome>, Outcome> {
        let Sent { expected, body } = sent;
        let proof = if expected.is_proven_by_headers() {
            Ok(())
        } else {
            self.hook.prove(&expected, &body.bytes)
        };
        let understand = |()| self.hook.understand(expected, &body.bytes).map_err(refused);
        match proof.and_then(understand) {
            Ok(received) => Ok(task::spawn(async move {
                let outcome = self.act(&received).await;
                self.list(received.id, outcome)
            })),
            Err(outcome) => Err(self.list(None, outcome)),
        }
    }

    /// Trigger a run for what was `received`, if it is a push that counts.
    async fn act(&self, received: &Received) -> Outcome {
        let Webhook { trigger, refs, from } = &*self.hook.webhook;
        let ignored = |why: &str| Outcome::Ignored(why.to_owned());
        let pushed = match &received.event {
            Event::Ping => return ignored("a ping"),
            Event::Other(event) => {
                return Outcome::Ignored(format!("the event `{}` is not a push", shown(event)));
            }
            Event::Push(pushed) => match forge::concern(refs.as_deref(), pushed) {
                Concern::Yes => forge::meant(refs.as_deref(), pushed),
                Concern::OtherRef => return other_refs(pushed),
                Concern::Deleted => return ignored("a ref was deleted"),
            },
        };
        let key = received.key;
        if let Some(run) = key.and_then(|key| self.deliveries.run(&key, Instant::now()))
            && !has_failed(&self.hook, &self.daemon, &run).await
        {
            return Outcome::Repeated(run);
        }
        let note = note::of(from, &pushed, received.id.as_deref());
        let id = received.id.as_deref().map(|id| format!(" {id}"));
        let by = format!(
            "the delivery{} of {} at {} from {}",
            id.unwrap_or_default(),
            from.word(),
            self.hook.path,
            self.client
        );
        match self.daemon.trigger(trigger, Task::Update, (note, &by)).await {
            Ok(run) => {
                if let Some(key) = key {
                    self.deliveries.know(key, run.clone(), Instant::now());
                }
                Outcome::Accepted(run)
            }
            Err(failure) if failure.kind == Kind::Paused => Outcome::Paused(failure.message),
            Err(failure) => Outcome::Unavailable {
                kind: failure.kind,
                why: said(&failure),
            },
        }
    }

    /// List the result.
    fn list(&self, id: Option<String>, result: Outcome) -> Outcome {
        let delivered = Delivered {
            path: self.hook.path.to_string(),
            trigger: self.hook.webhook.trigger.clone(),
            from: self.hook.webhook.from.word(),
            client: self.client.clone(),
            id,
            at: SystemTime::now(),
            times: 1,
            result: result.clone(),
        };
        self.deliveries.add(delivered, self.hook.webhook.from.files());
        result
    }
}

/// How many refs of a push to other refs are named.
const MAX_REFS: usize = 5;

fn other_refs(pushed: &[Pushed]) -> Outcome {
    let named = pushed.iter().take(MAX_REFS).map(|pushed| shown(&pushed.name));
    Outcome::OtherRefs(named.collect())
}

/// Whether `run` has failed, so that a repeated delivery triggers again. A run that cannot be looked up, or that the daemon does not
/// know, counts as failed: a run too many does no harm.
async fn has_failed(hook: &Hook, daemon: &Daemon, run: &RunId) -> bool {
    let Ok(log) = daemon.log(&hook.webhook.trigger).await else {
        return true;
    };
    let is_current = log.current.iter().any(|current| current.run == *run);
    let past = log.past.iter().find(|past| past.run == *run);
    past.map_or(!is_current, |past| past.past.done.exit != 0)
}

fn said(failure: &Failure) -> String {
    match &failure.help {
        Some(help) => format!("{} ({help})", failure.message),
        None => failure.message.clone(),
    }
}

fn refused(Refusal { status, why }: Refusal) -> Outcome {
    Outcome::Refused { status, why }
}

impl Hook {
    /// Checks of size and encoding, which need no secret.
    fn fits(&self, headers: &HeaderMap, body: &Incoming) -> Result<(), Refusal> {
        let declared = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        let declared = declared.and_then(|length| length.parse::<u64>().ok());
        if declared.unwrap_or(0).max(body.size_hint().lower()) > self.bounds.max {
            return Err(self.too_large());
        }
        let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
            Ok(())
        } else {
            Err(Refusal {
                status: 415,
                why: "the body is compressed, and no forge does that: is it a proxy?".into(),
            })
        }
    }

    fn too_large(&self) -> Refusal {
        let limit = bytesize::ByteSize(self.bounds.max);
        Refusal {
            status: 413,
            why: format!("the body is larger than {limit}: see `max_body`").into(),
        }
    }

    fn unread(&self, err: &body::Error) -> Outcome {
        refused(match err {
            body::Error::TooLarge => self.too_large(),
            body::Error::Busy => Refusal {
                status: 503,
                why: "too many large bodies are being read at the same time".into(),
            },
            body::Error::Evicted => Refusal {
                status: 503,
                why: "reading the body was stopped for another one: too many large bodies came at once, and this one took longest".into(),
            },
            body::Error::BrokenOff => Refusal {
                status: 400,
                why: "the body is incomplete: the sender or a proxy gave up, or the connection was lost"
                    .into(),
            },
        })
    }

    /// Check that the sender knows a secret. Blocks.
    fn prove(&self, expected: &Expected, body: &[u8]) -> Result<(), Outcome> {
        let known = self.secrets.current();
        let unreadable = known.errors.first().map(|err| Failure::of(err).message);
        if known.secrets.is_empty() {
            return Err(refused(Refusal {
                status: 503,
                why: unreadable.unwrap_or_default().into(),
            }));
        }
        let proof = expected.prove(&self.webhook.from, &known.secrets, body);
        proof.map_err(|refusal| {
            refused(match unreadable {
                Some(why) => Refusal {
                    why: format!("{}; and a file of secrets could not be used: {why}", refusal.why).into(),
                    ..refusal
                },
                None => refusal,
            })
        })
    }

    /// Read the body of an authenticated sender.
    fn understand(&self, expected: Expected, body: &[u8]) -> Result<Received, Refusal> {
        let delivery = expected.read(&self.webhook.from, body, SystemTime::now())?;
        let id = delivery.id.as_deref();
        Ok(Received {
            key: id.map(|id| Key::of(&self.path, id, body)),
            id: id.map(shown),
            event: delivery.event,
        })
    }
}
