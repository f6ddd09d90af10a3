//! Reads the body of a request, with a limit for each body and one for all together: senders are often authenticated only after the
//! whole body has been read.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use async_std::future::timeout;
use hyper::body::{Body as _, Incoming};

use crate::base::evicting::{EvictablePermit, EvictingSemaphore};

/// A body with more bytes than this is a large one. A push of twenty commits is smaller.
const SMALL: usize = 64 << 10;
/// How many bytes all large bodies may have together; but two of them are always read at the same time.
const ALL_LARGE: u64 = 64 << 20;
/// How long a large body waits for a permit; then reading the slowest one is stopped, so that incomplete bodies of attackers block no
/// delivery. Gitea waits for five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many bytes are allocated before the body has come; most deliveries fit.
const FIRST: u64 = 16 << 10;

/// The limits for bodies.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// The longest body, in bytes.
    pub(super) max: u64,
    large: Arc<EvictingSemaphore>,
}

#[derive(Debug)]
pub(super) enum Error {
    /// It is larger than allowed.
    TooLarge,
    /// The connection ended before it.
    BrokenOff,
    /// Too many large bodies are being read.
    Busy,
    /// Reading it was stopped for another large body.
    Evicted,
}

/// A body; a large one has its permit until it is dropped.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    _permit: Option<EvictablePermit>,
}

impl Bounds {
    /// Limits for bodies of at most `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        let permits = (ALL_LARGE / max.max(1)).max(2);
        Self {
            max,
            large: EvictingSemaphore::new(usize::try_from(permits).unwrap_or(usize::MAX)),
        }
    }

    /// Read all of `body`.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<Body, Error> {
        let room = body.size_hint().lower().min(FIRST);
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        let mut permit = None;
        if self.read_on(&mut body, &mut bytes, SMALL).await? {
            let mut own = self.permit().await?;
            let rest = self.read_on(&mut body, &mut bytes, usize::MAX);
            own.unless_evicted(rest).await.ok_or(Error::Evicted)??;
            permit = Some(own);
        }
        Ok(Body {
            bytes,
            _permit: permit,
        })
    }

    /// Read until there are more than `enough` bytes, or the end of the body. Gives whether more may come.
    async fn read_on(&self, body: &mut Incoming, bytes: &mut Vec<u8>, enough: usize) -> Result<bool, Error> {
        while bytes.len() <= enough {
            let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
                return Ok(false);
            };
            // Trailers are ignored.
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

    /// A permit to read a large body.
    async fn permit(&self) -> Result<EvictablePermit, Error> {
        match timeout(PATIENCE, self.large.acquire()).await {
            Ok(permit) => Ok(self.large.evictable(permit)),
            // A body that is being verified has its permit a little longer.
            Err(_) => timeout(PATIENCE, self.large.acquire_evicting())
                .await
                .map_err(|_| Error::Busy),
        }
    }
}
