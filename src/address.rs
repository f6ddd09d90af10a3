//! Where a daemon listens, as people write it: a path, `HOST:PORT`, or a bare port.

use std::{fmt, path::Path};

use crate::name::AbsPath;

/// An address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(AbsPath),
    /// `HOST:PORT`.
    Tcp(String),
}

/// Why a text is no address: a half sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Address {
    /// Read `./x.sock`, `/run/x.sock`, `unix:PATH`, `HOST:PORT`, `[::1]:PORT`, `tcp:HOST:PORT`, or a bare
    /// `PORT`, which means 127.0.0.1. Relative paths are relative to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Invalid> {
        let unix = |path: &str| {
            AbsPath::resolve(base, Path::new(path))
                .map(Self::Unix)
                .map_err(|why| Invalid(why.to_string()))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(addr) = text.strip_prefix("tcp:") {
            return tcp(addr).map(Self::Tcp);
        }
        if text.contains('/') {
            return unix(text);
        }
        match tcp(text) {
            Ok(addr) => Ok(Self::Tcp(addr)),
            Err(_) if text.ends_with(".sock") => unix(text),
            Err(err) => Err(err),
        }
    }

    /// Whether only this host can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(addr) => is_loopback(addr),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.fmt(f),
            Self::Tcp(addr) => f.write_str(addr),
        }
    }
}

fn tcp(text: &str) -> Result<String, Invalid> {
    let help = "write a path with a slash, HOST:PORT, [::1]:PORT or a PORT";
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("127.0.0.1", text),
    };
    if port.parse::<u16>().is_err() {
        return Err(Invalid(format!("{port:?} is not a port; {help}")));
    }
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) || host.contains(char::is_whitespace) {
        return Err(Invalid(format!("{host:?} is not a host; {help}")));
    }
    Ok(format!("{host}:{port}"))
}

/// Whether the host of `HOST:PORT` is this one, for certain.
fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse = |text: &str| Address::parse(text, Path::new("/base")).map(|addr| format!("{addr:?}"));
        let shown = |text: &str| Address::parse(text, Path::new("/base")).map(|addr| addr.to_string());
        for (text, expected) in [
            ("./x.sock", "/base/x.sock"),
            ("x.sock", "/base/x.sock"),
            ("/run/x.sock", "/run/x.sock"),
            ("unix:x", "/base/x"),
            ("9418", "127.0.0.1:9418"),
            ("localhost:1", "localhost:1"),
            ("[::1]:9418", "[::1]:9418"),
            ("tcp:h:1", "h:1"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["", "x", "h:", "h:99999", ":1", "::1:1", "tcp:", "a b:1", "unix:"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn loopback() {
        let local = |text: &str| Address::parse(text, Path::new("/")).unwrap().is_local();
        for text in ["1", "127.3.2.1:1", "[::1]:1", "localhost:1", "/x"] {
            assert!(local(text), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "192.168.0.1:1",
            "example.com:1",
            "localhost.example.com:1",
        ] {
            assert!(!local(text), "{text}");
        }
    }
}
