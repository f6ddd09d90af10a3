//! Finds requests that give the length of their body in two ways, which hyper does not report. A proxy may read such a request in
//! another way than we do (request smuggling; RFC 9112, section 6.3), so it is refused.
//!
//! The bytes are scanned as they come. The headers end with an empty line; then the body is skipped by its Content-Length. After a
//! chunked body nothing is scanned: the connection must be closed after it.

/// How many bytes of a header's name are kept, and how many digits.
const LONGEST: usize = "transfer-encoding".len();

/// The state of the scan.
#[derive(Debug)]
pub(super) enum Heads {
    In(Head),
    /// In a body with so many bytes left.
    Body(u64),
    /// In or after a chunked body.
    Blind,
}

/// Headers of which a part has come.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The beginning of the header's name, in lower case.
    name: Vec<u8>,
    /// The digits after the colon.
    digits: Option<Vec<u8>>,
    is_empty_line: bool,
    began: bool,
    length: Option<u64>,
    lengths: u32,
    encodings: u32,
}

impl Default for Heads {
    fn default() -> Self {
        Self::In(Head::new())
    }
}

impl Heads {
    /// Scan `bytes`. True if a request whose headers end there gives its length in two ways.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_twofold = false;
        while !bytes.is_empty() {
            match self {
                Self::Blind => break,
                Self::Body(left) => {
                    let passed = (*left).min(bytes.len() as u64);
                    *left -= passed;
                    bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
                    if *left == 0 {
                        *self = Self::In(Head::new());
                    }
                }
                Self::In(head) => {
                    let (first, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    if head.take(first) {
                        is_twofold |= head.lengths + head.encodings > 1;
                        *self = match (head.encodings, head.length) {
                            (0, None | Some(0)) => Self::In(Head::new()),
                            (0, Some(length)) => Self::Body(length),
                            _ => Self::Blind,
                        };
                    }
                }
            }
        }
        is_twofold
    }

    /// Whether further requests cannot be recognized.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self, Self::Blind)
    }
}

impl Head {
    fn new() -> Self {
        Self {
            is_empty_line: true,
            ..Self::default()
        }
    }

    /// Scan a byte. True if the headers end with it.
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' => {
                let is_end = self.is_empty_line && self.began;
                self.end_line();
                return is_end;
            }
            b'\r' => {}
            _ => {
                self.is_empty_line = false;
                self.began = true;
                match &mut self.digits {
                    Some(digits) if digits.len() <= LONGEST && byte.is_ascii_digit() => digits.push(byte),
                    Some(_) => {}
                    None if byte == b':' => self.digits = Some(Vec::new()),
                    None if self.name.len() <= LONGEST => self.name.push(byte.to_ascii_lowercase()),
                    None => {}
                }
            }
        }
        false
    }

    fn end_line(&mut self) {
        match self.name.as_slice() {
            b"content-length" => {
                self.lengths += 1;
                let digits = self.digits.take().unwrap_or_default();
                let length = String::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
                // hyper refuses what is not a number.
                self.length = Some(length.unwrap_or(u64::MAX));
            }
            b"transfer-encoding" => self.encodings += 1,
            _ => {}
        }
        self.name.clear();
        self.digits = None;
        self.is_empty_line = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, whatever the pieces that the bytes come in.
    fn look(text: &str) -> bool {
        let whole = Heads::default().look(text.as_bytes());
        let mut heads = Heads::default();
        let by_one = text
            .bytes()
            .map(|byte| heads.look(&[byte]))
            .fold(false, |a, b| a | b);
        assert_eq!(whole, by_one, "{text:?}");
        whole
    }

    #[test]
    fn two_lengths_are_found() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", false),
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\ncontent-LENGTH: 3\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\nContent-Length:3\nContent-Length:3\n\n", true),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            (
                "POST / HTTP/1.1\r\nX-Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encodings: x\r\nContent-Length: 0\r\n\r\n",
                false,
            ),
            // Those of a body are none.
            (
                "POST / HTTP/1.1\r\nContent-Length: 46\r\n\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabPOST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
            ),
            (
                "\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                true,
            ),
        ] {
            assert_eq!(look(text), expected, "{text:?}");
        }
    }
}
