//! The deadline of a connection: each request starts it again, and a stream has none.

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

/// How long a request may take in total, from its first byte to the last byte of its answer.
pub(super) const REQUEST: Duration = Duration::from_secs(20);

/// How long the headers of a request may take, and how long a connection may be idle before them.
pub(super) const HEAD: Duration = Duration::from_secs(5);

/// The deadline of a connection.
#[derive(Debug)]
pub(super) struct Clock {
    limit: Duration,
    until: Mutex<Option<Instant>>,
}

impl Clock {
    /// Start with a request that may take as long as `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            until: Mutex::new(Some(Instant::now() + limit)),
        }
    }

    pub(super) fn begin(&self) {
        *mutex::lock(&self.until) = Some(Instant::now() + self.limit);
    }

    /// Remove the deadline, for a stream.
    pub(super) fn stop(&self) {
        *mutex::lock(&self.until) = None;
    }

    pub(super) fn is_stopped(&self) -> bool {
        mutex::lock(&self.until).is_none()
    }

    /// Ends at the deadline.
    pub(super) async fn over(&self) {
        loop {
            let until = *mutex::lock(&self.until);
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

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn a_request_has_its_time_and_a_stream_has_none() {
        let short = Duration::from_millis(20);
        let clock = Clock::new(short);
        let begun = Instant::now();
        block_on(clock.over());
        assert!(begun.elapsed() >= short);
        clock.begin();
        let begun = Instant::now();
        let mut over = Box::pin(clock.over());
        assert!(block_on(poll_once(&mut over)).is_none());
        // Another request on the same connection.
        clock.begin();
        block_on(over);
        assert!(begun.elapsed() >= short);
        clock.stop();
        assert!(clock.is_stopped());
        assert!(block_on(poll_once(clock.over())).is_none());
    }
}
