//! The lines of a run as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! Each event has the id of its line. A browser that reconnects sends the last id, and gets the lines after it; if that id is no
//! longer known, the event `again` tells it to clear its list first. The stream ends with the run, or with the visitor's session.

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

/// After so long without a line, a comment is sent: proxies close silent connections after a minute, and a closed browser is noticed
/// only by sending.
const QUIET: Duration = Duration::from_secs(25);
/// How often a stream checks that its session still exists.
const LOOK: Duration = Duration::from_secs(3);
/// Lines that have come already are sent together, up to about so many bytes.
const TOGETHER: usize = 16 << 10;
/// After how many milliseconds a browser reconnects.
const RETRY_MS: u32 = 2000;

struct Stream<F> {
    follower: Follower,
    is_in: F,
    looked: Instant,
    sent: Instant,
    is_new: bool,
    is_over: bool,
}

/// The lines of `follower` as events, while `is_in` gives true.
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
        // Without it, nginx buffers the events.
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
        // So that deliveries and other connections get their turn, while many watchers follow a run with much output.
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

    /// `first`, and further lines that have come already.
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

/// A line as an event. JSON has no line breaks, so no text in a line can look like another event.
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
        // A line without text is sent for its id.
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
