//! Numbers for Prometheus, and the health checks of this process and the daemon.
//!
//! However many requests come, the front asks the daemon only once in `FRESH`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_std::{future::timeout, sync::Mutex, task};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    answer::{self, Answer},
    client::Client,
    config::{Config, Metrics},
    daemon::Daemon,
    deliveries::{Deliveries, Outcome},
};
use crate::{
    base::{
        event::{Event, now},
        fault::{Failure, Kind},
        name::AbsPath,
        pace::Pace,
        secret::{Error, Secret},
        vitals::Vitals,
    },
    daemon::wire::Request as Question,
};

mod families;
mod text;

use families::{Delivered, Told, render};

/// How long an answer is reused. Scrapers come every few seconds at most.
const FRESH: Duration = Duration::from_secs(1);
/// A token's file that cannot be read is logged once in this time, however many requests come.
const COMPLAINT: Duration = Duration::from_secs(60);
/// How long the daemon may take: Prometheus waits for ten seconds, and gets the other numbers in any case.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources of the numbers, and the token that protects them.
#[derive(Debug)]
pub struct Meters {
    daemon: Daemon,
    /// The file of the token that a request must have, if any.
    token_file: Option<AbsPath>,
    /// The paths of all webhooks.
    webhooks: Vec<String>,
    /// When this process started.
    since: u64,
    complaints: Pace,
    numbers: Last<Bytes>,
    pong: Last<Result<(), Kind>>,
}

/// The last result, and when it was found. The lock is held during a query, so that requests at the same time share it.
#[derive(Debug)]
struct Last<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Last<T> {
    async fn within(&self, fresh: Duration, find: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < fresh
        {
            return found.clone();
        }
        let found = find.await;
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl Meters {
    /// The meters of a front with `config`, if it has `metrics`. The token's file must be readable.
    pub fn of(config: &Config, daemon: &Daemon) -> Result<Option<Self>, Error> {
        let Some(Metrics { token_file }) = &config.metrics else {
            return Ok(None);
        };
        token_file.as_ref().map(Secret::read).transpose()?;
        Ok(Some(Self {
            daemon: daemon.clone(),
            token_file: token_file.clone(),
            webhooks: config.webhooks.keys().cloned().collect(),
            since: now(),
            complaints: Pace::new(1, COMPLAINT),
            numbers: Last::default(),
            pong: Last::default(),
        }))
    }

    /// Answer `/metrics`.
    pub async fn answer(
        &self,
        deliveries: &Deliveries,
        request: Request<Incoming>,
        client: &Client,
    ) -> Answer {
        if let Some(file) = &self.token_file {
            match is_permitted(file, request.headers()).await {
                Ok(true) => client.admit().await,
                Ok(false) => return refused(),
                Err(err) => {
                    if self.complaints.turn(Instant::now(), Duration::ZERO).is_some() {
                        tracing::error!("{}", Failure::of(&err).message);
                    }
                    return refused();
                }
            }
        }
        // On the heap, so that each connection's task stays small.
        let found = Box::pin(async {
            let daemon = self.ask().await;
            let own = Vitals::now(self.since);
            self.render(daemon, &self.counted(deliveries), &own)
        });
        let text = self.numbers.within(FRESH, found).await;
        answer::whole(StatusCode::OK, text::CONTENT_TYPE, text)
    }

    /// Answer `/readyz`: whether the daemon answers, and only that, since no sign-in is needed here.
    pub async fn readyz(&self) -> Answer {
        let ping = Box::pin(async {
            let pong = timeout(PATIENCE, self.daemon.ping()).await;
            pong.map_or(Err(Kind::Timeout), |pong| pong.map_err(|failure| failure.kind))
        });
        match self.pong.within(FRESH, ping).await {
            Ok(()) => answer::text(StatusCode::OK, "ok\n"),
            Err(kind) => answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the daemon does not answer: {}\n", kind.as_str()),
            ),
        }
    }

    /// The daemon's numbers; none if it does not answer.
    async fn ask(&self) -> Vec<Event> {
        match timeout(PATIENCE, Box::pin(self.daemon.ask(&Question::Metrics))).await {
            Ok(Ok(records)) => records.into_iter().map(|record| record.event).collect(),
            Ok(Err(failure)) => {
                tracing::debug!("no numbers of the daemon: {}", failure.message);
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// The number of deliveries to each webhook, by result. Zeros are included: Prometheus sees no increase in a series that begins
    /// with 1.
    fn counted(&self, deliveries: &Deliveries) -> Vec<Delivered> {
        let counts: BTreeMap<_, _> = deliveries
            .counts()
            .into_iter()
            .map(|(path, word, count)| ((path, word), count))
            .collect();
        let of = |path: &String, word| counts.get(&(path.clone(), word)).copied().unwrap_or(0);
        let all = self.webhooks.iter().flat_map(|path| {
            Outcome::WORDS
                .into_iter()
                .map(move |word| (path.clone(), word, of(path, word)))
        });
        all.collect()
    }

    fn render(&self, answered: Vec<Event>, deliveries: &[Delivered], own: &Vitals) -> Bytes {
        let (mut daemon, mut triggers) = (None, Vec::new());
        for event in answered {
            match event {
                Event::Daemon(of) => daemon = Some(*of),
                Event::Metrics(numbers) => triggers.push(*numbers),
                _ => {}
            }
        }
        let told = Told {
            daemon: daemon.as_ref(),
            triggers: &triggers,
            deliveries,
            kept: self.daemon.kept().len(),
            own,
        };
        render(&told).into()
    }
}

/// Answer `/healthz`: this process serves.
pub fn healthz() -> Answer {
    answer::text(StatusCode::OK, "ok\n")
}

/// Whether the request has the token in `file`, which is read each time, so that it can be changed.
async fn is_permitted(file: &AbsPath, headers: &HeaderMap) -> Result<bool, Error> {
    let Some(said) = bearer(headers).map(Arc::<str>::from) else {
        return Ok(false);
    };
    let file = file.clone();
    task::spawn_blocking(move || Secret::read(&file).map(|secret| secret.is(&said))).await
}

/// The bearer token (RFC 6750), if there is exactly one Authorization header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refused() -> Answer {
    let answer = answer::empty(StatusCode::UNAUTHORIZED);
    answer::with(answer, WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_headers() {
        for (said, token) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  abc "], Some("abc")),
            (&["Basic abc"], None),
            (&["Bearer"], None),
            (&[], None),
            (&["Bearer abc", "Bearer abc"], None),
            (&["Bearer \u{e9}"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(bearer(&headers), token, "{said:?}");
        }
    }

    #[test]
    fn those_who_come_together_ask_once() {
        let last = Last::default();
        let asked = std::cell::Cell::new(0);
        let find = || async {
            asked.set(asked.get() + 1);
            asked.get()
        };
        futures_lite::future::block_on(async {
            let (hour, none) = (Duration::from_secs(3600), Duration::ZERO);
            let (one, other) =
                futures_lite::future::zip(last.within(hour, find()), last.within(hour, find())).await;
            assert_eq!((one, other), (1, 1));
            assert_eq!(last.within(none, find()).await, 2);
        });
    }
}
