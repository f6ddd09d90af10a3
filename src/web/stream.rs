//! What a run says, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! Each event has the id of its line. A browser that lost the connection says the last id that it has got, and is sent what
//! comes after it; if that is no longer known, `again` tells it to forget what it shows. The stream ends with the run, or with
//! the session that it began in.

use std::time::{Duration, Instant};

use async_std::future::timeout;
use futures_lite::{future::yield_now, stream};
use hyper::{
    body::Bytes,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::json;

use super::{
    answer::{Answer, Body},
    daemon::{Follower, Line},
    lines,
};
use crate::base::event::Event;

/// After so long without a line something is sent nevertheless, so that nothing between takes the connection for dead, and a
/// browser that is gone is noticed: proxies wait for a minute.
const QUIET: Duration = Duration::from_secs(25);
/// So often a stream looks whether its session is still one.
const LOOK: Duration = Duration::from_secs(3);
/// Lines that are there already go together, up to about so many bytes: some hundred lines, made in less than a millisecond.
const TOGETHER: usize = 16 << 10;
/// A browser that lost the connection comes back after so many milliseconds.
const RETRY_MS: u32 = 2000;

struct Stream<F> {
    follower: Follower,
    is_in: F,
    looked: Instant,
    sent: Instant,
    is_new: bool,
    is_over: bool,
}

/// What `follower` gets, as events, for as long as `is_in` says that it may.
pub fn answer<F, G>(follower: Follower, is_in: F) -> Answer
where
    F: FnMut() -> G + Send + 'static,
    G: Future<Output = bool> + Send + 'static,
{
    let now = Instant::now();
    let stream = Stream {
        follower,
        is_in,
        looked: now,
        sent: now,
        is_new: true,
        is_over: false,
    };
    let lines = stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((bytes, stream))
    });
    let mut answer = Answer::new(Body::lines(lines));
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        // nginx collects answers otherwise.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

impl<F, G> Stream<F>
where
    F: FnMut() -> G,
    G: Future<Output = bool>,
{
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_new) {
            let again = if self.follower.is_resumed() {
                ""
            } else {
                "event: again\ndata:\n\n"
            };
            return Some(format!("retry: {RETRY_MS}\n\n{again}").into());
        }
        if self.is_over {
            return None;
        }
        // A run that says much has all of its watchers busy: others, and deliveries, come in between.
        yield_now().await;
        let events = loop {
            if self.looked.elapsed() >= LOOK {
                if !(self.is_in)().await {
                    break self.end();
                }
                self.looked = Instant::now();
            }
            let wait = LOOK.saturating_sub(self.looked.elapsed());
            match timeout(wait, self.follower.next()).await {
                Err(_) if self.sent.elapsed() < QUIET => {}
                Err(_) => break ":\n\n".into(),
                Ok(Some(line)) => break self.events(&line),
                Ok(None) => break self.end(),
            }
        };
        self.sent = Instant::now();
        Some(events.into())
    }

    fn end(&mut self) -> String {
        self.is_over = true;
        "event: end\ndata:\n\n".into()
    }

    /// `first`, and what else is there already.
    fn events(&mut self, first: &Line) -> String {
        let mut events = event(first);
        while events.len() < TOGETHER
            && let Some(line) = self.follower.at_hand()
        {
            events += &event(&line);
        }
        events
    }
}

/// A line as an event: JSON has no line breaks in it, so nothing in a line can be taken for another event.
fn event(line: &Line) -> String {
    let id = &line.id;
    let event = &line.record.event;
    if let Some(progress) = lines::progress(event) {
        let data = json!({ "text": progress.text, "done": progress.done, "total": progress.total });
        return format!("id: {id}\nevent: progress\ndata: {data}\n\n");
    }
    match lines::line(event) {
        Some(line) => {
            let is_step = !matches!(event, Event::HookLine { .. } | Event::Remote { .. });
            let data = json!({ "class": line.class, "text": line.text, "step": is_step });
            format!("id: {id}\ndata: {data}\n\n")
        }
        // It has no words, but a place.
        None => format!("id: {id}\nevent: nothing\ndata:\n\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{
        event::{Record, Stream},
        name::RunId,
    };

    fn shown(of: Event) -> String {
        event(&Line {
            id: "0000000a-7".into(),
            record: Arc::new(Record {
                run: RunId::none(),
                event: of,
            }),
        })
    }

    #[test]
    fn a_line_is_one_event_whatever_it_says() {
        let line = "x\n\nevent: end\ndata:\u{2028}</script>\r";
        let said = shown(Event::HookLine {
            stream: Stream::Stdout,
            line: line.into(),
        });
        assert_eq!(
            said,
            "id: 0000000a-7\ndata: {\"class\":\"ln\",\"step\":false,\"text\":\"x  event: end data: </script> \"}\n\n"
        );
        let said = shown(Event::HookEnded {
            hook: "x".into(),
            nth: None,
            status: "exit status 0".into(),
            success: true,
        });
        assert_eq!(said, "id: 0000000a-7\nevent: nothing\ndata:\n\n");
    }
}
