//! The body of a request, read whole and within bounds: one's own, and that of all together. The sender is not proven
//! before all of it is there.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use async_std::future::timeout;
use hyper::body::{Body as _, Incoming};

use crate::base::lobby::{Lobby, Seat};

/// A body that has more bytes is a large one. A push of twenty commits has as many at most.
const SMALL: usize = 64 << 10;
/// As many bytes may all large bodies have together, unless two of the largest have more.
const ALL_LARGE: u64 = 64 << 20;
/// How long a large one waits for others; then the one that has taken longest makes way: so strangers that say the half of
/// one stop none. Less than the five seconds that Gitea waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Room for as much of a body is made before any of it has come, in bytes: most deliveries fit.
const FIRST: u64 = 16 << 10;

/// What bodies are read within.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// The longest body, in bytes.
    pub(super) max: u64,
    large: Arc<Lobby>,
}

#[derive(Debug)]
pub(super) enum Error {
    /// It has more bytes than are allowed.
    TooLarge,
    /// The connection ended before it.
    BrokenOff,
    /// Too many large ones are there, and none made way.
    Busy,
    /// It made way for another large one.
    MadeWay,
}

/// A body, and its place among the large ones.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    _seat: Option<Seat>,
}

impl Bounds {
    /// For bodies of at most `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        let places = (ALL_LARGE / max.max(1)).max(2);
        Self {
            max,
            large: Lobby::new(usize::try_from(places).unwrap_or(usize::MAX)),
        }
    }

    /// All of `body`.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<Body, Error> {
        let room = body.size_hint().lower().min(FIRST);
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        let mut seat = None;
        if self.read_on(&mut body, &mut bytes, SMALL).await? {
            let mut own = self.seat().await?;
            let rest = self.read_on(&mut body, &mut bytes, usize::MAX);
            own.unless_called(rest).await.ok_or(Error::MadeWay)??;
            seat = Some(own);
        }
        Ok(Body { bytes, _seat: seat })
    }

    /// Read until there are more bytes than are `enough`, or no more to come. Whether more may come.
    async fn read_on(&self, body: &mut Incoming, bytes: &mut Vec<u8>, enough: usize) -> Result<bool, Error> {
        while bytes.len() <= enough {
            let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
                return Ok(false);
            };
            // Trailers say nothing here.
            let Ok(data) = frame.map_err(|_| Error::BrokenOff)?.into_data() else {
                continue;
            };
            if (bytes.len() + data.len()) as u64 > self.max {
                return Err(Error::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(true)
    }

    /// A seat among the large ones.
    async fn seat(&self) -> Result<Seat, Error> {
        match timeout(PATIENCE, self.large.wait()).await {
            Ok(place) => Ok(self.large.sit(place)),
            // One that is being proven is there for a moment more.
            Err(_) => timeout(PATIENCE, self.large.enter())
                .await
                .map_err(|_| Error::Busy),
        }
    }
}
