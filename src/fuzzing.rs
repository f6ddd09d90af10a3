//! What must hold for every input, for the fuzz targets in `fuzz/` and, over their corpus, for `cargo test`.
//!
//! Each function takes any bytes, as strangers send or files hold them, and panics if something does not hold.
//! This module is not part of a release.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use ring::hmac;

use crate::{
    base::{
        address::{Address, TcpAddr},
        event::{Done, Event, Record, Task},
        fault::{Failure, Kind, one_line},
        name::{AbsPath, RefName, RemoteName, RepoUrl, RunId, TriggerName},
        secret::Secret,
        words,
    },
    config::{Config, Disk, Error, Invalid, Problem, Source},
    daemon::wire::{self, Format, Line, Request},
    git::{transport::ssh, upload_pack::request},
    web::{
        self,
        config::From,
        deliveries,
        forge::{self, Delivery, Refusal},
        session::Cookie,
    },
};

/// What stands in URLs of the corpus wherever a password may.
const SECRET: &str = "hunter2";
/// The same twice, as Standard Webhooks writes it.
const SECRET_KEY: &str = "whsec_aHVudGVyMmh1bnRlcjI=";

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

/// A line of a client, text or JSON: what is understood can be said again, and what is answered is one harmless line.
pub fn request_line(data: &[u8]) {
    let (failure, format) = match wire::parse(data) {
        Ok(Line::Token(token)) => {
            return assert!(
                !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control())
            );
        }
        Ok(Line::Request(request, _, token)) => return said_again(&request, token.as_deref()),
        Err(refused) => refused,
    };
    assert_eq!(failure.kind, Kind::BadRequest);
    let answer = Record {
        run: RunId::none(),
        event: Event::Done(Done::failed("-", failure.clone())),
    };
    let answer = wire::render(&answer, format).unwrap_or_default();
    let text = answer.strip_suffix('\n').unwrap_or_default();
    assert!(text.len() < 1500, "{answer}");
    assert_eq!(one_line(text), text);
    match format {
        Format::Text => assert!(text.starts_with("error - bad-request: "), "{text}"),
        Format::Json => {
            let read: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
            assert_eq!(read["message"], failure.message);
        }
    }
}

fn said_again(request: &Request, token: Option<&str>) {
    let again = wire::request_line(request, token);
    let again = again.strip_suffix('\n').unwrap_or_default();
    let expected = Line::Request(request.clone(), Format::Json, token.map(Into::into));
    assert_eq!(wire::parse(again.as_bytes()), Ok(expected), "{again}");
}

/// The same for what is JSON by its first byte, whatever comes then.
pub fn json_request(data: &[u8]) {
    request_line(&[b"{", data].concat());
}

/// A configuration: right, or with errors that point into it, have a remedy, and show no secret.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut texts = text.split(BETWEEN_FILES).map(Into::into);
    let source = Source {
        file: "/etc/gitsocket/config.ron".into(),
        text: texts.next().unwrap_or_default(),
    };
    let included = Included(texts.collect());
    let invalid = match Config::parse_among(&source, &included, &|_| Some("value".into())) {
        Ok(config) => {
            assert!(!config.triggers.is_empty());
            return assert!(
                config
                    .triggers
                    .iter()
                    .all(|(name, target)| *name == target.trigger)
            );
        }
        Err(Error::Invalid(invalid)) => invalid,
        Err(err) => panic!("{err}"),
    };
    if included.0.is_empty() {
        points_into(&source, &invalid);
    } else {
        can_be_told(&invalid);
    }
}

const BETWEEN_FILES: &str = "\n---\n";

/// Texts of files, which are called by their numbers, in all directories.
struct Included(Vec<String>);

impl Disk for Included {
    fn names(&self, _: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<OsString>>>> {
        let names = (0..self.0.len()).map(|number| Ok(number.to_string().into()));
        Ok(Box::new(names))
    }

    fn read(&self, file: PathBuf) -> Result<Source, Error> {
        let number = file.file_name().and_then(|name| name.to_str()?.parse().ok());
        match number.and_then(|number: usize| self.0.get(number)) {
            Some(text) => Ok(Source {
                text: text.clone(),
                file,
            }),
            None => Err(Error::TooLarge { path: file }),
        }
    }
}

/// That errors point into the text, have a remedy, and can be logged.
fn points_into(source: &Source, invalid: &Invalid) {
    assert!(!invalid.problems().is_empty());
    for problem in invalid.problems() {
        for span in problem.spans() {
            assert!(source.text.get(span.clone()).is_some(), "{problem}: {span:?}");
        }
    }
    can_be_told(invalid);
}

/// That errors point into what is shown, and can be logged and rendered.
fn can_be_told(invalid: &Invalid) {
    for span in invalid.problems().iter().flat_map(Problem::spans) {
        assert!(invalid.shown().get(span).is_some());
    }
    let mut report = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
    handler.render_report(&mut report, invalid).unwrap_or_default();
    assert!(!report.contains("Failed to read contents"), "{report}");
    for line in invalid.lines() {
        assert_eq!(one_line(&line), line);
    }
}

/// The front's configuration, likewise.
pub fn web_config(data: &[u8]) {
    let source = Source {
        file: "/etc/gitsocket/web.ron".into(),
        text: String::from_utf8_lossy(data).into_owned(),
    };
    match web::config::Config::parse_with(&source, &|_| Some("value".into())) {
        Ok(config) => {
            let files = config.webhooks.values().map(|webhook| webhook.from.files());
            assert!(files.into_iter().all(|files| !files.is_empty()));
            assert!(
                config
                    .webhooks
                    .keys()
                    .all(|path| path.starts_with('/') && path.len() > 1)
            );
        }
        Err(Error::Invalid(invalid)) => points_into(&source, &invalid),
        Err(err) => panic!("{err}"),
    }
}

/// A delivery: lines of headers, an empty one, and a body. No forge's way proves a sender who does not know the secret, no
/// reason shows a secret or can forge lines, and whatever the body is, it is read.
pub fn delivery(data: &[u8]) {
    let split = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = split.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 2..]));
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    for from in senders() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let judged = forge::expect(&from, &headers).and_then(|expected| {
            let secret = match from {
                From::StandardWebhooks { .. } => SECRET_KEY,
                _ => SECRET,
            };
            let proof = expected.prove(&from, &[Secret::of(secret)], body);
            let proof = proof.map(|()| assert!(knows_the_secret(&headers, body), "{from:?}"));
            let read = expected.read(&from, body, now);
            proof.and(read)
        });
        match judged {
            Ok(Delivery { id, event }) => {
                let word = match event {
                    forge::Event::Other(word) => Some(word),
                    forge::Event::Ping | forge::Event::Push(_) => None,
                };
                for text in id.iter().chain(&word) {
                    let shown = deliveries::shown(text);
                    assert!(one_line(&shown) == shown && shown.chars().count() <= 101);
                }
            }
            Err(Refusal { status, why }) => {
                assert!([400, 401, 415].contains(&status));
                assert!(
                    one_line(&why) == why && why.len() < 300 && !why.contains(SECRET),
                    "{why}"
                );
            }
        }
    }
}

fn senders() -> [From; 8] {
    let secret_files = Vec::new;
    let file = || AbsPath::resolve(Path::new("/"), Path::new("file")).unwrap_or_else(|err| panic!("{err}"));
    [
        From::GitHub {
            secret_files: secret_files(),
        },
        From::Gitea {
            secret_files: secret_files(),
        },
        From::Bitbucket {
            secret_files: secret_files(),
        },
        From::StandardWebhooks {
            secret_files: secret_files(),
        },
        From::GitLab { token_file: file() },
        From::Bearer { token_file: file() },
        From::Basic {
            user: "me".into(),
            password_file: file(),
        },
        From::Hmac {
            header: "X-Signature".into(),
            prefix: String::new(),
            secret_files: secret_files(),
        },
    ]
}

/// Whether the secret, or a signature by it, is in one of the headers.
fn knows_the_secret(headers: &HeaderMap, body: &[u8]) -> bool {
    let sign = |key: &[u8], parts: &[&[u8]]| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat());
        tag.as_ref().to_vec()
    };
    let of = |name: &str| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let hex = words::hex(&sign(SECRET.as_bytes(), &[body]));
    let key = SECRET.repeat(2);
    let signed = [of("webhook-id"), b".", of("webhook-timestamp"), b".", body];
    let proofs = [
        hex,
        SECRET.to_owned(),
        STANDARD.encode(format!("me:{SECRET}")),
        STANDARD.encode(sign(key.as_bytes(), &signed)),
    ];
    headers.values().any(|value| {
        let value = String::from_utf8_lossy(value.as_bytes());
        proofs
            .iter()
            .any(|proof| value.contains(proof.as_str()) || value.to_lowercase().contains(proof.as_str()))
    })
}

/// Headers of cookies, a line each: what is taken for one of ours is as long as ours are, and was sent as such.
pub fn cookie(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for (kind, digits) in [(Cookie::Session, 64), (Cookie::Known, 128)] {
        for tls in [true, false] {
            let set = kind.set("", tls);
            let name = set.split('=').next().unwrap_or_default();
            let values = kind.values(text.lines(), tls);
            assert!(values.len() <= 180);
            for value in values {
                assert!(value.len() == digits && value.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let pair = format!("{name}={value}");
                let mut pairs = text.lines().flat_map(|line| line.split(';'));
                assert!(pairs.any(|sent| sent.trim() == pair), "{pair}");
            }
        }
    }
}

/// A name in a stranger's hands: of a trigger, a ref, a remote, a run, an address. What is accepted is what it says.
pub fn name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = TriggerName::new(text.as_ref()) {
        assert_eq!(name.as_str(), text);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['/', '\\', '"']));
        // It is one word of the protocol, and no other; or it was none before there was that word.
        let line = if TriggerName::LATER_WORDS.contains(&name.as_str()) {
            format!("trigger {name}").into_bytes()
        } else {
            data.to_owned()
        };
        let request = Request::Trigger {
            name,
            task: Task::Update,
            wait: true,
            note: None,
        };
        assert_eq!(wire::parse(&line), Ok(Line::Request(request, Format::Text, None)));
    }
    for (name, prefix) in [
        (RefName::branch(&text), "refs/heads/"),
        (RefName::tag(&text), "refs/tags/"),
    ] {
        let Ok(name) = name else { continue };
        assert!(name.as_str().starts_with(prefix));
        assert!(
            !name.short().starts_with('-') && !name.as_str().contains(char::is_control),
            "{name}"
        );
        assert!(name.as_str().split('/').all(is_plain), "{name}");
        assert!(text.ends_with(name.short()));
    }
    if let Ok(name) = RemoteName::new(&text) {
        assert!(name.as_str().split('/').all(is_plain), "{name}");
    }
    if let Ok(address) = Address::parse(&text, Path::new("/base")) {
        // An address of TCP can be read again as it is shown, and is as far away.
        if let Address::Tcp(tcp) = &address {
            assert_eq!(TcpAddr::parse(&tcp.addr).as_ref(), Ok(tcp), "{text:?}");
        } else {
            assert!(address.is_local());
        }
    }
    let run: Result<RunId, _> = serde_json::from_value(text.as_ref().into());
    if let Ok(run) = run {
        assert_eq!(run.as_str(), text);
    }
    let shown = Failure::new(Kind::Internal, text.as_ref(), None).message;
    assert_eq!(one_line(&shown), shown);
}

/// A part of a path that leads neither up nor nowhere.
fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.ends_with(".lock")
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

    #[test]
    fn request_lines_hold() {
        let words = [
            "trigger ", "status", "token ", "ping", "metrics", "log ", "\r", "\u{2028}", "\u{202e}", "\x1b[",
            "{\"op\":",
        ];
        all("request_line", 20_000, &words, request_line);
    }

    #[test]
    fn json_requests_hold() {
        let words = [
            "\"op\":",
            "\"name\":",
            "\"token\":",
            "\\u2028",
            "\\n",
            "\\ud800",
            "1e999",
            "null",
            "[[",
            "}",
        ];
        all("json_request", 20_000, &words, json_request);
    }

    #[test]
    fn configurations_hold() {
        let words = [
            "(",
            ")",
            "[",
            "{",
            "\"",
            "r#\"",
            "/*",
            "//",
            "Some(",
            "None",
            "User(",
            "\\u{",
            "-1",
            "${",
            "://",
            "{name}",
            "include: [\"d/*\"],",
            "include: [\"d/0\"],",
            "defaults: (",
            BETWEEN_FILES,
        ];
        all("config", 300, &words, config);
    }

    #[test]
    fn configurations_of_the_front_hold() {
        let words = [
            "(",
            ")",
            "{",
            "\"",
            "Http(",
            "GitHub(",
            "secret_files: [",
            "\"/hooks/",
            "refs/heads/",
            "users: {",
            "plain: true,",
        ];
        all("web_config", 300, &words, web_config);
    }

    #[test]
    fn cookies_hold() {
        let words = [
            "gitsocket=",
            "gitsocket-known=",
            "__Host-",
            ";",
            "; ",
            "\n",
            "=",
            "0123456789abcdef",
        ];
        all("cookie", 20_000, &words, cookie);
    }

    #[test]
    fn deliveries_hold() {
        let words = [
            "X-Hub-Signature-256: sha256=",
            "X-Gitea-Signature: ",
            "v1,",
            "\n",
            "\n\n",
            ": ",
            "hunter2",
            "\"ref\":",
            "\"new\":null,",
            "[[",
            "}",
            "\\ud800",
            "\u{202e}",
            "webhook-timestamp: 1",
        ];
        all("delivery", 20_000, &words, delivery);
    }

    #[test]
    fn names_hold() {
        let words = [
            "..",
            ".lock",
            "@{",
            "refs/heads/",
            "/",
            "-",
            "tcp:",
            "unix:",
            "[::1]",
            ":0",
            "HEAD",
            "~",
            "\u{0}",
        ];
        all("name", 20_000, &words, name);
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
        let mut random = fastrand::Rng::with_seed(crate::machine::seed());
        // More of them in CI, by its rounds.
        for _ in 0..crate::machine::rounds(times / 6) {
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
