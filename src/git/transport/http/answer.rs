//! What a server's answer amounts to: git's protocol, a redirect, or one of many ways to say no.

use std::io::Read as _;

use ureq::{
    Body,
    http::{Response, Uri, header},
};

use super::{
    Error,
    auth::Credentials,
    certificate::{self, Shown},
    location::{self, Origin},
};
use crate::base::fault::one_line;

/// The type of an answer: `advertisement` of refs, or `result` of a request.
pub(super) fn content_type(kind: &str) -> String {
    format!("application/x-git-upload-pack-{kind}")
}

/// The body of `response`, if it is what git asked for; `unauthorized` knows what a 401 means, and of our
/// certificate the server has seen what `shown` says. Its words are not repeated where they hold `credentials`.
pub(super) fn check(
    uri: &Uri,
    mut response: Response<Body>,
    kind: &str,
    shown: Shown<'_>,
    credentials: Option<&Credentials>,
    unauthorized: impl FnOnce(Option<String>) -> Error,
) -> Result<Body, Error> {
    let url = location::shown(uri);
    let status = response.status().as_u16();
    if status != 200 {
        let page = start(response.body_mut(), 1000);
        let host = Origin::of(uri).map(|origin| origin.to_string());
        if status == 400
            && let Some(err) = certificate::page(&page, &host.unwrap_or_default(), shown)
        {
            return Err(err);
        }
        let said = said(response.body(), &page)
            .filter(|line| credentials.is_none_or(|credentials| !credentials.are_in(line)));
        return Err(match status {
            401 => unauthorized(said),
            403 => Error::Forbidden { url, said },
            404 | 410 => Error::NotFound { url, status, said },
            _ => Error::Status { url, status, said },
        });
    }
    let found = response.body().mime_type().unwrap_or_default().trim();
    if found.eq_ignore_ascii_case(&content_type(kind)) {
        return Ok(response.into_body());
    }
    let content_type = match found {
        "" => "something without a type".into(),
        name if name.eq_ignore_ascii_case("text/html") => "a web page".into(),
        name => one_line(name),
    };
    Err(if is_dumb(response.body_mut()) {
        Error::Dumb { url }
    } else {
        Error::NotGit { url, content_type }
    })
}

pub(super) fn redirected_to(response: &Response<Body>) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = response.headers().get(header::LOCATION)?;
    Some(String::from_utf8_lossy(to.as_bytes()).into_owned())
}

/// The first line of a plain text that begins with `start`, as git shows it.
fn said(body: &Body, start: &[u8]) -> Option<String> {
    if !body.mime_type()?.eq_ignore_ascii_case("text/plain") {
        return None;
    }
    let text = String::from_utf8_lossy(&start[..start.len().min(200)]);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(one_line(line))
}

/// `info/refs` of a repository that is served as files begins with an object id and a tab.
fn is_dumb(body: &mut Body) -> bool {
    let start = start(body, 65);
    let digits = start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    matches!(digits, 40 | 64) && start.get(digits) == Some(&b'\t')
}

fn start(body: &mut Body, limit: u64) -> Vec<u8> {
    let mut start = Vec::new();
    // What cannot be read is not shown: the answer's status is the error.
    let _read = body.as_reader().take(limit).read_to_end(&mut start);
    start
}
