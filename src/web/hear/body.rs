//! The body of a request, read whole and within bounds: one's own, and that of all together. Whoever sends it is not proven
//! before all of it is there.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use async_std::future::timeout;
use hyper::body::{Body as _, Incoming};

use crate::base::room::{Place, Room};

/// A body that has more bytes is a large one. A push of twenty commits has as many at most.
const SMALL: usize = 64 << 10;
/// As many bytes may all large bodies have together, unless two of the largest have more.
const ALL_LARGE: u64 = 64 << 20;
/// How long a large one waits for others.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room for as much of a body is made before any of it has come, in bytes: most deliveries fit.
const FIRST: u64 = 16 << 10;

/// What bodies are read within.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// The longest body, in bytes.
    pub(super) max: u64,
    large: Arc<Room>,
}

/// There is no body.
#[derive(Debug)]
pub(super) enum Error {
    /// It has more bytes than are allowed.
    TooLarge,
    /// The connection ended before it.
    BrokenOff,
    /// Too many large ones are being read.
    Busy,
}

/// A body, and its place among the large ones.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    _place: Option<Place>,
}

impl Bounds {
    /// For bodies of at most `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        let places = (ALL_LARGE / max.max(1)).max(2);
        Self {
            max,
            large: Room::new(usize::try_from(places).unwrap_or(usize::MAX)),
        }
    }

    /// All of `body`.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<Body, Error> {
        let room = body.size_hint().lower().min(FIRST);
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        let mut place = None;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            // Trailers say nothing here.
            let Ok(data) = frame.map_err(|_| Error::BrokenOff)?.into_data() else {
                continue;
            };
            let length = bytes.len() + data.len();
            if length as u64 > self.max {
                return Err(Error::TooLarge);
            }
            if length > SMALL && place.is_none() {
                let waited = timeout(PATIENCE, self.large.wait()).await;
                place = Some(waited.map_err(|_| Error::Busy)?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Body { bytes, _place: place })
    }
}
