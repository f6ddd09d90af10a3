//! Where a daemon listens, as people write it: a path, `HOST:PORT`, or a bare port.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use crate::base::name::AbsPath;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(AbsPath),
    Tcp(TcpAddr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpAddr {
    /// `HOST:PORT`.
    pub addr: String,
    /// Whether only this machine can reach it. Of names only `localhost` is known for that.
    pub loopback: bool,
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
        const HELP: &str = "write a path with a slash, HOST:PORT, [::1]:PORT, or a PORT of 127.0.0.1";
        let tcp = |text: &str| {
            TcpAddr::parse(text)
                .map(Self::Tcp)
                .map_err(|why| Invalid(format!("{why}; {HELP}")))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(addr) = text.strip_prefix("tcp:") {
            return tcp(addr);
        }
        if text.contains('/') {
            return unix(text);
        }
        match tcp(text) {
            Ok(addr) => Ok(addr),
            Err(_) if text.ends_with(".sock") => unix(text),
            Err(err) => Err(err),
        }
    }

    /// Whether only this host can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(tcp) => tcp.loopback,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.fmt(f),
            Self::Tcp(tcp) => f.write_str(&tcp.addr),
        }
    }
}

impl TcpAddr {
    /// Read `HOST:PORT`, `[::1]:PORT`, or a bare `PORT`. The error is a half sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = match text.rsplit_once(':') {
            Some(split) => split,
            None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => ("127.0.0.1", text),
            None => return Err("it has no port"),
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => Some(IpAddr::V6(
                host.parse().map_err(|_| "the brackets hold no IPv6 address")?,
            )),
            None if host.contains(':') => return Err("an IPv6 address must be in brackets"),
            None => host.parse().ok(),
        };
        let port: u16 = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or("its port is not a number from 0 to 65535")?;
        match ip {
            Some(ip) => Ok(TcpAddr {
                addr: SocketAddr::new(ip, port).to_string(),
                loopback: ip.to_canonical().is_loopback(),
            }),
            None if host.is_empty() => {
                Err("it names no host (127.0.0.1 is this machine alone, 0.0.0.0 all its networks)")
            }
            None if is_host_name(host) => {
                let host = host.to_ascii_lowercase();
                Ok(TcpAddr {
                    loopback: host == "localhost",
                    addr: format!("{host}:{port}"),
                })
            }
            None => Err("its host is neither an IP address nor a host name"),
        }
    }
}

impl TcpAddr {
    /// Its host, an address without brackets or a name, and its port.
    pub fn host_and_port(&self) -> (&str, u16) {
        let (host, port) = self.addr.rsplit_once(':').unwrap_or((&self.addr, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host, port.parse().unwrap_or(0))
    }
}

/// RFC 1123, section 2.1: the last label is not all digits, or it would be an address.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
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
    fn tcp_addresses() {
        for (text, addr, loopback) in [
            ("9418", "127.0.0.1:9418", true),
            ("127.0.0.1:0", "127.0.0.1:0", true),
            ("127.9.9.9:1", "127.9.9.9:1", true),
            ("[::1]:9418", "[::1]:9418", true),
            ("[0:0::1]:9418", "[::1]:9418", true),
            ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", true),
            ("LocalHost:80", "localhost:80", true),
            ("localhost.example.com:80", "localhost.example.com:80", false),
            ("0.0.0.0:80", "0.0.0.0:80", false),
            ("[::]:80", "[::]:80", false),
            ("git-host:80", "git-host:80", false),
        ] {
            let parsed = TcpAddr::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (parsed.addr.as_str(), parsed.loopback),
                (addr, loopback),
                "{text}"
            );
        }
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:x",
            "host:+1",
            "host:65536",
            "::1:80",
            "[::1]",
            "[::1",
            "[x]:1",
            "1.2.3:4",
            "256.1.1.1:80",
            "a b:80",
            "-a:80",
            "*:80",
            "a..b:1",
        ] {
            assert!(TcpAddr::parse(text).is_err(), "{text}");
        }
    }
}
