//! One connection: HTTP, its deadline, and its limits.

use std::{convert::Infallible, os::fd::AsFd, pin::pin, sync::Arc, time::Duration};

use async_std::{
    future::timeout,
    io::{self, Read, ReadExt as _, Write},
};
use futures_lite::{FutureExt as _, future::pending};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use smol_hyper::rt::FuturesIo;

use super::{
    admission::Admission,
    clock::{Clock, HEAD, REQUEST, Timers},
    route::Front,
    shutdown::Shutdown,
    watch::{Seen, Watched},
};
use crate::{
    base::evicting::EvictablePermit,
    web::{
        answer::{self, Answer, Body},
        client::Client,
    },
};

/// The longest request line and headers, in bytes: forges and browsers send 1 to 4 kB.
const MAX_HEAD: usize = 32 << 10;
/// The maximum number of headers: a forge behind two proxies sends 30.
const MAX_HEADERS: usize = 64;

/// How long, and how much, to read from a client that was answered before it had sent its whole body: about the largest body that can
/// be configured.
const LEFTOVER: Duration = Duration::from_secs(5);
const MAX_LEFTOVER: u64 = 32 << 20;

/// How long to wait for the first bytes of a new connection when the process is to stop.
const UNDER_WAY: Duration = Duration::from_secs(2);

pub(super) struct Connection {
    client: Client,
    front: Arc<Front>,
    admission: Arc<Admission>,
    shutdown: Shutdown,
    clock: Clock,
    seen: Arc<Seen>,
}

enum Next {
    Ended,
    /// The client was admitted, or got another permit.
    Moved,
    Evicted,
    /// The client of the stream has closed the connection.
    Gone,
    Late,
    Stopping,
}

impl Connection {
    pub(super) fn new(
        client: Client,
        front: Arc<Front>,
        admission: Arc<Admission>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            client,
            front,
            admission,
            shutdown,
            clock: Clock::new(REQUEST),
            seen: Arc::default(),
        }
    }

    /// Answer requests on `stream`, which is `raw` or TLS over it, to its end.
    pub(super) async fn talk(
        self,
        stream: impl Read + Write + Unpin,
        raw: impl Raw,
        permit: EvictablePermit,
    ) {
        let mut permit = Some(permit);
        let mut raw = raw;
        if self.answer_all(stream, &mut raw, &mut permit).await {
            let lingering = linger(raw);
            match permit {
                Some(mut permit) => drop(permit.unless_evicted(lingering).await),
                None => lingering.await,
            }
        }
    }

    /// Answer requests. True if the connection has ended by itself, false if it is to be closed at once.
    async fn answer_all(
        &self,
        stream: impl Read + Write + Unpin,
        raw: &mut impl Raw,
        permit: &mut Option<EvictablePermit>,
    ) -> bool {
        let stream = FuturesIo::new(Watched::new(stream, self.seen.clone()));
        let service = service_fn(async |request| Ok::<_, Infallible>(self.answer(request).await));
        let mut talking = pin!(http().serve_connection(stream, service));
        let mut is_stopping = false;
        loop {
            let moved = self.client.admission();
            if self.client.is_admitted() {
                *permit = None;
            }
            let ended = async {
                // An error means that the client has gone, so no answer is needed.
                talking.as_mut().await.ok();
                Next::Ended
            };
            let moved = async {
                moved.await;
                Next::Moved
            };
            let interrupted = self.interrupted(permit, raw, is_stopping);
            match ended.or(moved).or(interrupted).await {
                Next::Moved => {}
                Next::Stopping if !self.clock.is_stopped() => {
                    is_stopping = true;
                    // Before its first bytes, hyper would close the connection at once, and the client would get no answer.
                    let ended = async {
                        talking.as_mut().await.ok();
                        true
                    };
                    let begun = async {
                        timeout(UNDER_WAY, self.seen.begun()).await.ok();
                        false
                    };
                    if ended.or(begun).await {
                        return true;
                    }
                    talking.as_mut().graceful_shutdown();
                }
                Next::Ended => return true,
                Next::Evicted | Next::Gone | Next::Late | Next::Stopping => return false,
            }
        }
    }

    async fn interrupted(
        &self,
        permit: &mut Option<EvictablePermit>,
        raw: &mut impl Raw,
        is_stopping: bool,
    ) -> Next {
        let evicted = async {
            match permit {
                Some(permit) => permit.evicted().await,
                None => pending().await,
            }
            Next::Evicted
        };
        let gone = async {
            if self.clock.is_stopped() {
                hear_out(raw).await
            } else {
                pending().await
            }
            Next::Gone
        };
        let late = async {
            self.clock.over().await;
            Next::Late
        };
        let stopping = async {
            if is_stopping {
                pending().await
            } else {
                self.shutdown.said().await
            }
            Next::Stopping
        };
        evicted.or(gone).or(late).or(stopping).await
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.clock.begin();
        let mut answer = match self.refuse(&request) {
            Some(refusal) => refusal,
            // On the heap, since otherwise this future would enlarge the state that hyper keeps for each connection.
            None => Box::pin(self.front.answer(request, &self.client)).await,
        };
        if matches!(answer.body(), Body::Lines(_)) {
            answer = self.begin_stream(answer);
        }
        let must_end = self.seen.is_twofold() || self.seen.is_blind() || self.clock.is_stopped();
        // If all permits are taken, an idle connection must not keep one.
        if must_end || self.admission.authenticated.is_full() {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        secure(answer.headers_mut());
        answer
    }

    /// Refuse requests that are ambiguous or have no path, before any handler sees them.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        let uri = request.uri();
        let hosts = request.headers().get_all(hyper::header::HOST).iter().count();
        let why = if self.seen.is_twofold() {
            "the request gives the length of its body in two ways"
        } else if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
            "the request's target is not a path"
        } else if hosts > 1 || hosts == 0 && request.version() == hyper::Version::HTTP_11 {
            "the request needs one Host"
        } else {
            return None;
        };
        Some(answer::error_json(
            StatusCode::BAD_REQUEST,
            "bad-request",
            why,
            None,
        ))
    }

    /// Streams have their own permits: gives the answer, or a refusal if all are taken.
    fn begin_stream(&self, answer: Answer) -> Answer {
        match self.admission.streams.try_acquire() {
            Some(permit) => {
                self.client.move_to(permit);
                self.clock.stop();
                answer
            }
            None => {
                let message = format!("{} streams are open already", self.admission.streams.permits());
                let refusal = answer::error_json(StatusCode::SERVICE_UNAVAILABLE, "busy", &message, None);
                answer::with(
                    refusal,
                    hyper::header::RETRY_AFTER,
                    HeaderValue::from_static("10"),
                )
            }
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(Timers)
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .half_close(true);
    http
}

pub(super) trait Raw: Read + AsFd + Unpin {}
impl<S: Read + AsFd + Unpin> Raw for S {}

/// Read the rest of a body that was refused: closing a socket with unread bytes resets the connection, and the client may lose the
/// answer.
async fn linger(raw: impl Raw) {
    rustix::net::shutdown(&raw, rustix::net::Shutdown::Write).ok();
    let mut rest = raw.take(MAX_LEFTOVER);
    let mut nowhere = io::sink();
    timeout(LEFTOVER, io::copy(&mut rest, &mut nowhere)).await.ok();
}

/// Ends when the client of a stream has closed its end. Without this, it would be noticed only with the next event, and the permit would
/// be taken until then.
async fn hear_out(raw: &mut impl Raw) {
    let mut nothing = [0; 1024];
    while raw.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}

/// Headers of every answer, unless it has others: no guessing of types, no frames, no cache, no referrer.
fn secure(headers: &mut HeaderMap) {
    use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
