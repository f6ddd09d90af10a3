//! The time of a connection: each request begins it anew, and a stream has none.

use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_std::task;
use futures_lite::Future;
use hyper::rt::{Sleep, Timer};

use crate::base::mutex;

/// How long a request may take in all, from its first byte to the last one of its answer.
pub(super) const REQUEST: Duration = Duration::from_secs(20);

/// How long the head of a request may take, and how long a connection may be idle before it.
pub(super) const HEAD: Duration = Duration::from_secs(5);

/// Until when a connection has time.
#[derive(Debug)]
pub(super) struct Clock(Mutex<Option<Instant>>);

impl Clock {
    /// A request begins.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Instant::now() + REQUEST)))
    }

    /// Another request begins.
    pub(super) fn begin(&self) {
        *mutex::lock(&self.0) = Some(Instant::now() + REQUEST);
    }

    /// A stream begins, which may last.
    pub(super) fn stop(&self) {
        *mutex::lock(&self.0) = None;
    }

    pub(super) fn is_stopped(&self) -> bool {
        mutex::lock(&self.0).is_none()
    }

    /// Ends when the time is over.
    pub(super) async fn over(&self) {
        loop {
            let until = *mutex::lock(&self.0);
            let Some(until) = until else {
                return std::future::pending().await;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            task::sleep(left).await;
        }
    }
}

/// async-std's timers, as hyper wants them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers;

struct Sleeping(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Sleep for Sleeping {}

impl Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Box::pin(task::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}
