//! URLs as HTTP sees them: whose they are, how they are shown, and where a redirect leads. Text only, no I/O.

use std::fmt;

use ureq::http::{Uri, uri::Authority};

use crate::base::{fault::one_line, name::RepoUrl};

/// Who answers for a URL: credentials for one origin are never sent to another (RFC 6454, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    https: bool,
    /// The host in lower case, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// The origin of `uri`, if it is one of ours: http or https, with a host.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        Some(Self {
            https,
            host: host.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
        })
        .filter(|origin| !origin.host.is_empty())
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https, host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]")?
        } else {
            f.write_str(host)?
        }
        match (https, port) {
            (true, 443) | (false, 80) => Ok(()),
            _ => write!(f, ":{port}"),
        }
    }
}

/// The text of `url` that requests are built on: without credentials, with brackets around an IPv6 address.
pub(super) fn base(url: &RepoUrl) -> gix::Url {
    let mut url = url.without_secrets();
    // gix-url writes the brackets only before a port.
    if url.port.is_none() && url.host().is_some_and(|host| host.contains(':')) {
        url.port = url.port_or_default();
    }
    url
}

/// `uri` for people: no credentials, no query, and without what git adds to the repository's URL.
pub(super) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map(without_user).unwrap_or_default();
    let path = uri.path();
    let path = ["/info/refs", "/git-upload-pack"]
        .iter()
        .find_map(|tail| path.strip_suffix(tail))
        .unwrap_or(path);
    format!("{scheme}://{authority}{path}")
}

/// Where `location` leads, seen from `from`, or where it would and why it is not followed.
pub(super) fn redirect(from: &Uri, location: &str) -> Result<Uri, (String, &'static str)> {
    let text = absolute(from, location);
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        let to = format!("a {} URL", one_line(scheme));
        return Err((to, "it is neither http:// nor https://"));
    }
    let to: Uri = text
        .parse()
        .map_err(|_| ("what is not a URL".to_owned(), "it cannot be read"))?;
    let refused = |reason| Err((shown(&to), reason));
    match (Origin::of(from), Origin::of(&to)) {
        (_, None) => refused("it names no host"),
        (Some(from), Some(to)) if from.https && !to.https => refused("it is not encrypted"),
        _ => match without_credentials(&to) {
            Some(to) => Ok(to),
            None => refused("it cannot be read"),
        },
    }
}

/// RFC 3986, section 5.2, as far as servers use it: `.` and `..` are left to the server.
fn absolute(from: &Uri, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default().trim();
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map(Authority::as_str).unwrap_or_default();
    if location
        .split_once("://")
        .is_some_and(|(scheme, _)| !scheme.contains(['/', '?']))
    {
        return location.to_owned();
    }
    if location.starts_with("//") {
        return format!("{scheme}:{location}");
    }
    if location.starts_with('/') {
        return format!("{scheme}://{authority}{location}");
    }
    let (folder, _) = from.path().rsplit_once('/').unwrap_or_default();
    format!("{scheme}://{authority}{folder}/{location}")
}

/// A redirect may not choose whom we say we are.
fn without_credentials(uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(without_user(uri.authority()?).parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn without_user(authority: &Authority) -> String {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "https://a.example/me/x.git/info/refs?service=git-upload-pack";

    #[test]
    fn redirects() {
        let from: Uri = FROM.parse().unwrap();
        for (location, to) in [
            (
                "https://b.example/y/info/refs?q",
                "https://b.example/y/info/refs?q",
            ),
            ("https://me:pw@b.example:8443/y", "https://b.example:8443/y"),
            ("//b.example/y", "https://b.example/y"),
            ("/y#frag", "https://a.example/y"),
            (
                "other?x=https://c/",
                "https://a.example/me/x.git/info/other?x=https://c/",
            ),
        ] {
            assert_eq!(redirect(&from, location).unwrap().to_string(), to, "{location}");
        }
        for location in [
            "http://a.example/me/x.git/info/refs",
            "file:///etc/passwd",
            "ftp://b.example/y",
            "ssh://b.example/y",
            "https://",
            "https://b c/",
        ] {
            assert!(redirect(&from, location).is_err(), "{location}");
        }
        let plain: Uri = "http://a.example/x".parse().unwrap();
        assert!(redirect(&plain, "https://a.example/x").is_ok());
    }

    #[test]
    fn shown_without_secrets() {
        let uri: Uri = "https://me:pw@a.example/x.git/info/refs?token=1".parse().unwrap();
        assert_eq!(shown(&uri), "https://a.example/x.git");
    }

    #[test]
    fn origins() {
        let of = |text: &str| Origin::of(&text.parse().unwrap());
        assert_eq!(of("https://A.example/x"), of("https://a.example:443/y"));
        assert_ne!(of("https://a.example/x"), of("http://a.example:443/x"));
        assert_ne!(of("https://a.example/x"), of("https://a.example:8443/x"));
        assert_ne!(of("https://a.example/x"), of("https://b.a.example/x"));
        assert_eq!(of("ftp://a.example/x"), None);
        assert_eq!(of("http://[::1]:80/x").unwrap().to_string(), "[::1]");
        assert_eq!(of("http://h:8080/").unwrap().to_string(), "h:8080");
    }

    #[test]
    fn addresses_keep_their_brackets() {
        let base = |text: &str| {
            base(&RepoUrl::parse(text, std::path::Path::new("/")).unwrap())
                .to_bstring()
                .to_string()
        };
        assert_eq!(base("http://[::1]/x.git"), "http://[::1]:80/x.git");
        assert_eq!(base("https://me:pw@[::1]:8443/x.git"), "https://[::1]:8443/x.git");
        assert_eq!(base("https://me@h/a%20b.git"), "https://h/a%20b.git");
    }
}
