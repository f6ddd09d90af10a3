//! What must hold for every input, for the fuzz targets in `fuzz/` and, over their corpus, for `cargo test`.
//!
//! Each function takes any bytes, as strangers send or files hold them, and panics if something does not hold.
//! This room is part of no release.

use std::path::Path;

use crate::{name::RepoUrl, transport::ssh, upload_pack::request};

/// What stands in URLs of the corpus wherever a password may.
const SECRET: &str = "hunter2";

/// Lines of known_hosts.
pub fn known_hosts(data: &[u8]) {
    ssh::fuzzing::known_hosts(&String::from_utf8_lossy(data));
}

/// A URL of a repository: a password in it is never shown, and a shell on the SSH host sees one word.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let url = match RepoUrl::parse(&text, Path::new("/base")) {
        Ok(url) => url,
        Err(err) => {
            // A scheme that is not known is shown.
            let in_scheme = text.split(':').next().unwrap_or_default().contains(SECRET);
            return assert!(in_scheme || !err.to_string().contains(SECRET), "{text:?}: {err}");
        }
    };
    let parts = url.with_secrets();
    let texts = [parts.user(), parts.password(), parts.host()];
    let path = String::from_utf8_lossy(&parts.path);
    for part in texts.into_iter().flatten().chain([&*path]) {
        assert!(!part.contains(char::is_control), "{text:?}: {part:?}");
    }
    let shown = [
        url.to_string(),
        format!("{url:?}"),
        url.without_secrets().to_bstring().to_string(),
    ];
    let elsewhere = path.contains(SECRET)
        || parts.host().is_some_and(|host| host.contains(SECRET))
        || url
            .without_secrets()
            .user()
            .is_some_and(|user| user.contains(SECRET));
    for shown in shown {
        assert!(
            elsewhere || !shown.contains(SECRET),
            "{text:?} is shown as {shown:?}"
        );
    }
    let without = url.without_secrets();
    assert_eq!(
        (without.password(), without.host()),
        (None, parts.host()),
        "{text:?}"
    );
    ssh::fuzzing::remote(&url);
}

/// What a client of upload-pack sends, request after request.
pub fn upload_pack_request(data: &[u8]) {
    let mut rest = data;
    loop {
        let before = rest.len();
        let request = match request::parse_request(&mut rest) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(err) => return assert!(!err.to_string().is_empty()),
        };
        assert!(rest.len() < before, "nothing was read");
        if let request::Command::Fetch(fetch) = request.command {
            let ids = [fetch.wants, fetch.haves, fetch.shallow].concat();
            // Each takes a line of its own.
            assert!(ids.len() * request.object_format.len_in_hex() <= before - rest.len());
            assert!(ids.iter().all(|id| id.kind() == request.object_format));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn known_hosts_hold() {
        all(
            "known_hosts",
            // Signatures take their time.
            1000,
            &[
                "@revoked ",
                "@cert-authority ",
                "*",
                "!",
                ",",
                "|1|",
                "[",
                "]:2222 ",
                "\t",
                "=",
                "\n",
            ],
            known_hosts,
        );
    }

    #[test]
    fn urls_hold() {
        all(
            "url",
            20_000,
            &[
                "://", "@", ":", "%00", "%0a", "'", "!", "\\", "[", "]", "~", "-", "hunter2", "\"", " ",
            ],
            url,
        );
    }

    #[test]
    fn requests_of_upload_pack_hold() {
        all(
            "upload_pack_request",
            20_000,
            &[
                "0000", "0001", "0002", "0004", "fff0", "ffff", "deepen 1", "\n", "\0",
            ],
            upload_pack_request,
        );
    }

    /// The corpus of `target` as it stands, then thousands of mutations.
    fn all(target: &str, times: usize, words: &[&str], run: fn(&[u8])) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let corpus: Vec<Vec<u8>> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(
            corpus.len() >= 5,
            "only {} files in {}",
            corpus.len(),
            dir.display()
        );
        corpus.iter().for_each(|data| run(data));
        let seed = match std::env::var("GITSOCKET_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => fastrand::u64(..),
        };
        eprintln!("GITSOCKET_TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..times {
            let mut data = corpus[random.usize(..corpus.len())].clone();
            for _ in 0..random.usize(1..5) {
                mutate(&mut data, &corpus, words, &mut random);
            }
            run(&data);
        }
    }

    fn mutate(data: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], random: &mut fastrand::Rng) {
        let at = random.usize(..=data.len());
        let end = data.len().min(at + random.usize(..20));
        match random.u8(..6) {
            0 if at < data.len() => data[at] ^= 1 << random.u8(..8),
            1 => drop(data.drain(at..end)),
            2 => drop(data.splice(at..at, words[random.usize(..words.len())].bytes())),
            3 => {
                let piece = data[at..end].to_vec();
                let to = random.usize(..=data.len());
                drop(data.splice(to..to, piece));
            }
            4 => {
                let other = &corpus[random.usize(..corpus.len())];
                let from = random.usize(..=other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => data.insert(at, random.u8(..)),
        }
    }
}
