//! What a server offers, as it said when it was first asked: a client that asks again and again need not ask for that each time.
//!
//! Only of protocol v2, in which it depends on nothing that changes from one push to the next; and what is kept may be out of date:
//! the fetch that uses it asks again without, before an error counts.

use std::sync::{Arc, Mutex};

use crate::base::mutex;

/// An offer that is longer is not kept, in bytes: that of a server of v2 has some 200. One is kept for each trigger that is polled.
const MAX_OFFER: usize = 4 * 1024;
/// What git's HTTP servers say before it.
const SERVICE: &[u8] = b"001e# service=git-upload-pack\n0000";
/// How one of protocol v2 begins.
const VERSION: &[u8] = b"000eversion 2\n";

/// What a server offers: its words, which gix understands each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub(super) words: Arc<[u8]>,
    /// Whether it asked for credentials that were not sent at once.
    pub(super) asks: bool,
}

/// Where one conversation finds an offer, or leaves it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Offers(Arc<Mutex<Option<Offer>>>);

impl Offers {
    pub fn new(offer: Option<Offer>) -> Self {
        Self(Arc::new(Mutex::new(offer)))
    }

    pub fn known(&self) -> Option<Offer> {
        mutex::lock(&self.0).clone()
    }

    /// Collect the words of a new one.
    pub(super) fn listen(&self) -> Listener {
        Listener {
            to: self.clone(),
            words: Vec::new(),
        }
    }
}

/// Hears an offer piece by piece.
#[derive(Debug)]
pub(super) struct Listener {
    to: Offers,
    words: Vec<u8>,
}

impl Listener {
    /// Another `piece`; says whether there may be more that counts.
    pub(super) fn hear(&mut self, piece: &[u8]) -> bool {
        self.words.extend_from_slice(piece);
        self.words.len() <= MAX_OFFER
    }

    /// End the offer. It is left for others if it is of protocol v2.
    pub(super) fn end(self, asks: bool) {
        let begin = self.words.strip_prefix(SERVICE).unwrap_or(&self.words);
        if begin.starts_with(VERSION) && self.words.ends_with(b"0000") {
            let words = self.words.into();
            *mutex::lock(&self.to.0) = Some(Offer { words, asks });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_short_and_of_version_2_is_kept() {
        let long = "0009abcd\n".repeat(MAX_OFFER / 9);
        for (said, is_kept) in [
            (
                "001e# service=git-upload-pack\n0000000eversion 2\n000cls-refs\n0000",
                true,
            ),
            ("000eversion 2\n000cls-refs\n0000", true),
            ("000eversion 1\n0000", false),
            ("001e# service=git-upload-pack\n0000", false),
            ("000eversion 2\n000cls-", false),
            ("", false),
            (&format!("000eversion 2\n{long}0000"), false),
        ] {
            let offers = Offers::default();
            let mut listener = offers.listen();
            let mut pieces = said.as_bytes().chunks(7);
            if pieces.all(|piece| listener.hear(piece)) {
                listener.end(true);
            }
            let words = offers.known().map(|offer| offer.words.to_vec());
            assert_eq!(words, is_kept.then(|| said.into()), "{said:.60}");
        }
    }
}
