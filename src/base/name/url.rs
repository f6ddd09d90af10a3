//! Where a repository is, as git reads it; never shown with its secrets, which are overwritten when it is dropped.

use std::{fmt, net::Ipv6Addr, os::unix::ffi::OsStrExt, path::Path};

use zeroize::{Zeroize as _, Zeroizing};

use super::{AbsPath, Invalid};

/// Where a repository is. Its text never shows a password: `Display` and `Debug` redact it.
#[derive(Clone, PartialEq, Eq)]
pub struct RepoUrl {
    url: gix::Url,
    local: Option<AbsPath>,
}

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A path or `file://`: served by this process itself.
    Local,
    /// `git://`: the daemon of `git daemon`, unauthenticated.
    Git,
    Http,
    Https,
    /// `ssh://` or `user@host:path`.
    Ssh,
}

impl RepoUrl {
    /// Read `text` as git does: a URL, `user@host:path`, or a path, which is taken relative to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Invalid> {
        readable(text)?;
        let parsed = gix::url::parse(text).map_err(|err| Invalid::new(reason(&err)))?;
        // From here on, it overwrites its secrets whatever happens.
        let mut this = Self {
            url: parsed,
            local: None,
        };
        let url = &this.url;
        // What was encoded, too: a NUL or a line's end would be more than a path to its reader there.
        let texts = [url.user(), url.password(), url.host()];
        let has_control = |text: &str| text.contains(char::is_control);
        if texts.into_iter().flatten().any(has_control) || url.path.iter().any(u8::is_ascii_control) {
            return Err(Invalid::new("it contains a control character"));
        }
        match url.scheme {
            gix::url::Scheme::File => {
                let path = local_path(text, url)?;
                let path = std::ffi::OsStr::from_bytes(&path);
                this.local = Some(AbsPath::resolve(base, Path::new(path))?);
            }
            gix::url::Scheme::Git
            | gix::url::Scheme::Http
            | gix::url::Scheme::Https
            | gix::url::Scheme::Ssh => {
                if url.host().is_none_or(str::is_empty) {
                    return Err(Invalid::new("it names no host"));
                }
                let over_http = matches!(url.scheme, gix::url::Scheme::Http | gix::url::Scheme::Https);
                if over_http && url.path.iter().any(|byte| b"?#".contains(byte)) {
                    return Err(Invalid::new(
                        "a repository's URL has no query (?…) and no fragment (#…)",
                    ));
                }
                this.url.host = url.host().map(host).transpose()?;
            }
            _ => {
                return Err(Invalid::new(format!(
                    "its scheme {:?} is not supported; use a path, file://, git://, http://, https:// or ssh://",
                    url.scheme.as_str()
                )));
            }
        }
        Ok(this)
    }

    pub fn scheme(&self) -> Scheme {
        match self.url.scheme {
            gix::url::Scheme::Git => Scheme::Git,
            gix::url::Scheme::Http => Scheme::Http,
            gix::url::Scheme::Https => Scheme::Https,
            gix::url::Scheme::Ssh => Scheme::Ssh,
            _ => Scheme::Local,
        }
    }

    /// The URL with all that it holds, a password included: for the transport only.
    pub fn with_secrets(&self) -> &gix::Url {
        &self.url
    }

    /// The URL without user and password for HTTP, and without a password for the rest:
    /// fit for `.git/config`, logs and people.
    pub fn without_secrets(&self) -> gix::Url {
        let mut url = self.url.clone();
        wipe(&mut url);
        url
    }

    pub fn local_path(&self) -> Option<&AbsPath> {
        self.local.as_ref()
    }
}

/// The scheme of a URL that lacks a slash: git takes `https:/me:pw@host/x` for a path on the host `https`, and a password
/// in it for a part of that.
fn one_slash(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(":/")?;
    let known = ["http", "https", "ssh", "git", "file"].contains(&scheme);
    (known && !rest.starts_with('/')).then_some(scheme)
}

/// Overwrite the password, and for HTTP the user, which may be a token.
fn wipe(url: &mut gix::Url) {
    url.set_password(None).zeroize();
    if matches!(url.scheme, gix::url::Scheme::Http | gix::url::Scheme::Https) {
        url.set_user(None).zeroize();
    }
}

impl Drop for RepoUrl {
    fn drop(&mut self) {
        wipe(&mut self.url);
    }
}

fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "-._~".contains(c))
}

/// `host` without the colon of an empty port, if it is one: gix takes any text there.
fn host(host: &str) -> Result<String, Invalid> {
    let is_address = |text: &str| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let (address, zone) = bare
            .unwrap_or(text)
            .split_once('%')
            .unwrap_or((bare.unwrap_or(text), ""));
        address.parse::<Ipv6Addr>().is_ok() && is_name(zone.strip_prefix("25").unwrap_or(zone))
    };
    let without_colon = host.strip_suffix(':').unwrap_or(host);
    [host, without_colon]
        .into_iter()
        .find(|text| !text.is_empty() && (is_address(text) || is_name(text)))
        .map(str::to_owned)
        .ok_or_else(|| Invalid::new("its host is neither a name nor an address"))
}

/// Why there is no URL. gix's own words repeat the text, which may hold a password.
fn reason(err: &gix::Error) -> &'static str {
    let message = Zeroizing::new(err.to_string());
    match message.split("input=").next() {
        Some(words) if words.contains("path to a repository") => "it names no path",
        _ => "its host or port cannot be read",
    }
}

/// `url` as text. gix leaves out the brackets around an IPv6 address, and then cannot read it again.
fn with_brackets(url: &gix::Url) -> String {
    let text = url.to_bstring().to_string();
    match url.host() {
        Some(host) if host.contains(':') && !text.contains(&format!("[{host}]")) => {
            text.replacen(host, &format!("[{host}]"), 1)
        }
        _ => text,
    }
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.local {
            Some(path) => path.fmt(f),
            None => f.write_str(&with_brackets(&self.without_secrets())),
        }
    }
}

impl fmt::Debug for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoUrl({self})")
    }
}

/// Refuse what git would read as something else than its writer meant.
fn readable(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("it is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new("it contains a control character"));
    }
    if let Some(scheme) = one_slash(text) {
        return Err(Invalid::new(format!("{scheme}: takes two slashes, {scheme}://…")));
    }
    // gix splits these at the wrong colon, see git-fetch(1) for what they mean.
    let is_bracketed = text.starts_with('[') || text.contains("@[");
    if is_bracketed && text.contains("]:") && !text.contains("://") {
        return Err(Invalid::new(
            "an address or a port in brackets needs the form ssh://USER@[ADDRESS]:PORT/PATH",
        ));
    }
    Ok(())
}

/// The path that a `file://` URL, or a path, stands for.
fn local_path(text: &str, url: &gix::Url) -> Result<Vec<u8>, Invalid> {
    if url.host().is_some_and(|host| !host.is_empty()) {
        return Err(Invalid::new(
            "a file:// URL names no host; write file:///absolute/path",
        ));
    }
    // As git does, and unlike gitoxide: %20 is a space in a URL, and itself in a path.
    let path: Vec<u8> = if text
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("file://"))
    {
        percent_encoding::percent_decode(&url.path).collect()
    } else {
        url.path.to_vec()
    };
    if path.iter().any(u8::is_ascii_control) {
        return Err(Invalid::new("it contains a control character"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_hide_their_secrets() {
        let base = Path::new("/etc/g");
        let url = RepoUrl::parse("https://me:hunter2@example.com/x.git", base).unwrap();
        assert_eq!(url.to_string(), "https://example.com/x.git");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert_eq!(
            RepoUrl::parse("git@example.com:me/x.git", base).unwrap().scheme(),
            Scheme::Ssh
        );
        assert!(RepoUrl::parse("git@h:x?y#z", base).is_ok());
        assert!(RepoUrl::parse("./a:/b?c", base).is_ok());
        assert_eq!(RepoUrl::parse("x.git", base).unwrap().to_string(), "/etc/g/x.git");
        assert_eq!(
            RepoUrl::parse("file:///srv/x.git", base).unwrap().local_path(),
            Some(&AbsPath("/srv/x.git".into()))
        );
        for (text, path) in [
            ("file:///srv/a%20b%41", "/srv/a bA"),
            ("file:///srv/100%", "/srv/100%"),
            ("/srv/a%20b", "/srv/a%20b"),
        ] {
            let url = RepoUrl::parse(text, base).unwrap();
            assert_eq!(url.local_path(), Some(&AbsPath(path.into())));
        }
        for bad in [
            "",
            "ftp://h/x",
            "ext::sh -c x",
            "a\nb",
            "https:///x",
            "https:/me:pw@h/x",
            "https://h/x.git?token=y",
            "https://h/x.git#main",
            "file:///a%0ab",
            "file:///a%00b",
            "ssh://git@h/a%00b",
            "ssh://git@h%0a/x",
            "https://h/%0ax",
            "https://me%0d:x@h/x",
            "ssh://git@h:1:2/x",
            "ssh://git@h,i/x",
            "ssh://git@[fe80::1%25a,b]/x",
            "git@h *:x",
            "git@[::1]:x/y",
            "[git@h:2222]:x/y",
        ] {
            assert!(RepoUrl::parse(bad, base).is_err(), "{bad:?}");
        }
        for wrong in [
            "https://me:hunter2@exa mple.com:x/y",
            "https://me:hunter2@h:x/\"y\\",
        ] {
            let err = RepoUrl::parse(wrong, base).unwrap_err();
            assert_eq!(err.to_string(), "its host or port cannot be read");
        }
        for (text, shown) in [
            ("ssh://git@h:/x", "ssh://git@h/x"),
            ("https://h:/x", "https://h/x"),
            ("ssh://git@[::1]:/x", "ssh://git@[::1]/x"),
            ("ssh://git@[fe80::1%25eth0]/x", "ssh://git@[fe80::1%25eth0]/x"),
        ] {
            assert_eq!(RepoUrl::parse(text, base).unwrap().to_string(), shown);
        }
    }
}
