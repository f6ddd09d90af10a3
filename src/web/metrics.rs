//! Numbers for Prometheus, and whether this process and the daemon are there.

use hyper::{Request, StatusCode, body::Incoming};

use super::{
    answer::{self, Answer},
    client::Client,
    config::Metrics,
    daemon::Link,
};

/// Answer `/metrics`.
pub async fn answer(
    _metrics: &Metrics,
    _link: &Link,
    _request: Request<Incoming>,
    _client: &Client,
) -> Answer {
    answer::text(StatusCode::NOT_IMPLEMENTED, "not yet\n")
}

/// Answer `/healthz`: this process serves.
pub fn healthz() -> Answer {
    answer::text(StatusCode::OK, "ok\n")
}

/// Answer `/readyz`: the daemon answers as well.
pub async fn readyz(link: &Link) -> Answer {
    match link.ping().await {
        Ok(()) => answer::text(StatusCode::OK, "ok\n"),
        Err(failure) => answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", failure.kind.as_str()),
        ),
    }
}
