//! What servers before protocol version 2 offer, without what gix would misuse.
//!
//! To them, `deepen-relative` among a client's capabilities makes `deepen N` count from the client's own bound
//! (gitprotocol-capabilities(5)). gix repeats every capability that it knows: with `depth: 1`, a clone would bring the
//! whole history, and each update one commit more.

use gix_transport::client::Capabilities;

/// What is `offered`, but not `deepen-relative`.
pub(super) fn without_relative(offered: Capabilities) -> Capabilities {
    let mut bytes = vec![0];
    for offer in offered.iter().filter(|offer| offer.name() != "deepen-relative") {
        bytes.extend_from_slice(offer.name());
        if let Some(value) = offer.value() {
            bytes.push(b'=');
            bytes.extend_from_slice(value);
        }
        bytes.push(b' ');
    }
    match Capabilities::from_bytes(bytes.trim_ascii_end()) {
        Ok((left, _)) => left,
        // There was nothing else.
        Err(_) => offered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_relative_depth() {
        for (offered, left) in [
            (
                "shallow deepen-since deepen-relative symref=HEAD:refs/heads/a agent=x/1",
                "shallow deepen-since symref=HEAD:refs/heads/a agent=x/1",
            ),
            ("shallow deepen-relative", "shallow"),
            ("deepen-relative=1 a=b=c", "a=b=c"),
            ("shallow", "shallow"),
        ] {
            let (offered, _) = Capabilities::from_bytes(format!("\0{offered}").as_bytes()).unwrap();
            let (left, _) = Capabilities::from_bytes(format!("\0{left}").as_bytes()).unwrap();
            assert_eq!(format!("{:?}", without_relative(offered)), format!("{left:?}"));
        }
    }
}
