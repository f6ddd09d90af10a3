//! The body of a request, read whole and within bounds.

use std::{future::poll_fn, pin::Pin};

use hyper::body::{Body as _, Incoming};

/// Room for as much of a body is made before any of it has come, in bytes: most deliveries fit.
const FIRST: u64 = 16 << 10;

/// There is no body.
#[derive(Debug)]
pub(super) enum Error {
    /// It has more bytes than are allowed.
    TooLarge,
    /// The connection ended before it.
    BrokenOff,
}

/// All of `body`, which has at most `limit` bytes.
pub(super) async fn read(mut body: Incoming, limit: u64) -> Result<Vec<u8>, Error> {
    let room = body.size_hint().lower().min(FIRST);
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        // Trailers say nothing here.
        let Ok(data) = frame.map_err(|_| Error::BrokenOff)?.into_data() else {
            continue;
        };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(Error::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
