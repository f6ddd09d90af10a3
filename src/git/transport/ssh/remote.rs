//! What a URL means in SSH's terms: host, port, user, and the command to run there.

use super::{
    Error,
    known_hosts::{Host, PORT},
};
use crate::{base::name::RepoUrl, git::transport::tcp::Peer};

/// Where to go, as whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Name or address, in lower case.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// The command that runs there, for a shell to read.
    pub(super) command: String,
    pub(super) peer: Peer,
}

impl Remote {
    pub(super) fn new(url: &RepoUrl) -> Result<Self, Error> {
        let parts = url.with_secrets();
        let shown = url.to_string();
        let user = match parts.user() {
            Some(user) if !user.is_empty() => user.to_owned(),
            _ => return Err(Error::NoUser { url: shown }),
        };
        let wrong = |reason| Error::Url {
            url: shown.clone(),
            reason,
        };
        let path = std::str::from_utf8(&parts.path).map_err(|_| wrong("its path is not UTF-8"))?;
        // git calls such a path strange: the command could take it for an option.
        if path.starts_with('-') {
            return Err(wrong("its path begins with '-'"));
        }
        let name = parts.host().unwrap_or_default().to_ascii_lowercase();
        let host = Host {
            name: name.trim_start_matches('[').trim_end_matches(']'),
            port: parts.port.unwrap_or(PORT),
        };
        Ok(Self {
            host: host.name.into(),
            port: host.port,
            user,
            command: format!("git-upload-pack {}", quoted(path)),
            peer: Peer {
                host: shown_host(host),
                url: shown,
            },
        })
    }

    /// The host, as known_hosts names it.
    pub(super) fn host(&self) -> Host<'_> {
        Host {
            name: &self.host,
            port: self.port,
        }
    }
}

fn shown_host(host: Host<'_>) -> String {
    match (host.port, host.name.contains(':')) {
        (PORT, _) => host.name.into(),
        (port, false) => format!("{}:{port}", host.name),
        (port, true) => format!("[{}]:{port}", host.name),
    }
}

/// As git's `sq_quote_buf`: no shell sees anything but the text in it.
fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '!' => out.extend(["'\\", c.encode_utf8(&mut [0; 4]), "'"]),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn remote(url: &str) -> Result<Remote, Error> {
        Remote::new(&RepoUrl::parse(url, Path::new("/")).unwrap())
    }

    #[test]
    fn urls() {
        for (url, host, port, user, command) in [
            ("git@H.example:me/x.git", "h.example", 22, "git", "'me/x.git'"),
            ("git@h:/srv/x.git", "h", 22, "git", "'/srv/x.git'"),
            ("git@h:~/x.git", "h", 22, "git", "'~/x.git'"),
            ("git@h:~me/x.git", "h", 22, "git", "'~me/x.git'"),
            ("git@h:a b'c!d", "h", 22, "git", "'a b'\\''c'\\!'d'"),
            ("git@h:100%25", "h", 22, "git", "'100%25'"),
            ("ssh://git@h/srv/x.git", "h", 22, "git", "'/srv/x.git'"),
            ("ssh://git@h:22/x", "h", 22, "git", "'/x'"),
            ("ssh://git@h:2222/~/x.git", "h", 2222, "git", "'~/x.git'"),
            ("ssh://git@h/~me/x.git", "h", 22, "git", "'~me/x.git'"),
            ("ssh://git@h/a%20b", "h", 22, "git", "'/a b'"),
            ("ssh://a%40b@h/x", "h", 22, "a@b", "'/x'"),
            ("ssh://git@[::1]:2222/x", "::1", 2222, "git", "'/x'"),
            ("ssh://git@[::1]/x", "::1", 22, "git", "'/x'"),
        ] {
            let found = remote(url).unwrap();
            assert_eq!(
                (
                    found.host.as_str(),
                    found.port,
                    found.user.as_str(),
                    found.command.as_str()
                ),
                (host, port, user, format!("git-upload-pack {command}").as_str()),
                "{url}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used() {
        for url in ["h:x", "ssh://h/x", "ssh://@h/x"] {
            assert!(matches!(remote(url), Err(Error::NoUser { .. })), "{url}");
        }
        let err = remote("git@h:-x").unwrap_err();
        assert_eq!(
            err.to_string(),
            "git@h:-x cannot be used: its path begins with '-'"
        );
    }

    #[test]
    fn hosts_are_shown_as_they_are_written() {
        for (url, shown) in [
            ("git@h:x", "h"),
            ("ssh://git@h:22/x", "h"),
            ("ssh://git@h:2222/x", "h:2222"),
            ("ssh://git@[::1]:2222/x", "[::1]:2222"),
        ] {
            assert_eq!(remote(url).unwrap().peer.host, shown);
        }
    }
}
