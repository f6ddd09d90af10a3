//! Listeners.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use super::{
    Check,
    choice::variant,
    field::{Fields, TCP, UNIX},
    value::{filled, mode},
};
use crate::{
    config::{Listener, raw::Value, report::Problem},
    name::AbsPath,
};

/// The longest path of a Unix socket: unix(7), `sockaddr_un.sun_path` without its NUL.
const MAX_SOCKET_PATH: usize = 107;
/// The mode of a Unix socket if the configuration does not say.
const DEFAULT_MODE: u32 = 0o600;

impl Check<'_> {
    pub(super) fn listeners(&mut self, fields: &Fields<'_>) -> Vec<Listener> {
        let example = r#"write listen: [Unix(path: "gitsocket.sock")]"#;
        let list = self.optional(fields, "listen", |value| {
            value.list().map_err(|p| p.help(example))
        });
        let mut seen = BTreeMap::<String, Range<usize>>::new();
        let mut out = Vec::new();
        for value in list.unwrap_or_default() {
            let Some((listener, at)) = self.listener(value) else {
                continue;
            };
            let address = match &listener {
                Listener::Unix { path, .. } => path.to_string(),
                Listener::Tcp { addr, .. } => addr.clone(),
            };
            // Of port 0 the system makes another port each time.
            let twice = seen.get(&address).filter(|_| !address.ends_with(":0"));
            if let Some(first) = twice {
                let problem = Problem::at(at, format!("two listeners have the address {address}"))
                    .label("the second one")
                    .also(first.clone(), "the first one")
                    .help("remove or change one of them");
                self.problems.push(problem);
            } else {
                seen.insert(address, at);
            }
            out.push(listener);
        }
        out
    }

    /// A listener, and where its address stands.
    fn listener(&mut self, value: Value<'_>) -> Option<(Listener, Range<usize>)> {
        let which = variant(value, "a listener", &[("Unix", true), ("Tcp", true)]);
        match self.keep(which)? {
            "Unix" => self.unix(value),
            _ => self.tcp(value),
        }
    }

    fn unix(&mut self, value: Value<'_>) -> Option<(Listener, Range<usize>)> {
        let fields = self.fields(value, &UNIX)?;
        let around = self.around;
        let path = self.required(&fields, "path", r#""gitsocket.sock""#, |value| {
            let path = around.path(value)?;
            Ok((short_enough(value, path)?, value.head()))
        });
        let mode = self.optional(&fields, "mode", mode);
        let group = self.optional(&fields, "group", filled);
        let (path, at) = path?;
        let mode = mode.unwrap_or(DEFAULT_MODE);
        Some((Listener::Unix { path, mode, group }, at))
    }

    fn tcp(&mut self, value: Value<'_>) -> Option<(Listener, Range<usize>)> {
        let fields = self.fields(value, &TCP)?;
        let addr = self.required(&fields, "addr", r#""127.0.0.1:9418""#, tcp_addr);
        let around = self.around;
        let token_file = self.optional(&fields, "token_file", |value| around.secret_path(value));
        let at = fields.get("addr")?.head();
        let TcpAddr { addr, loopback } = addr?;
        if !loopback && !fields.has("token_file") {
            let problem = Problem::at(at.clone(), format!("anybody who reaches {addr} could start runs"))
                .label("not on the loopback interface")
                .help(r#"add token_file: "…", or listen on 127.0.0.1, [::1] or localhost"#);
            self.problems.push(problem);
        }
        Some((Listener::Tcp { addr, token_file }, at))
    }
}

fn short_enough(value: Value<'_>, path: AbsPath) -> Result<AbsPath, Problem> {
    let length = path.as_path().as_os_str().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(path);
    }
    let message = format!(
        "the socket's full path has {length} bytes; the system allows {MAX_SOCKET_PATH} for a socket"
    );
    Err(Problem::at(value.head(), message)
        .help("put it into a directory with a shorter path, such as /run/gitsocket"))
}

/// A TCP address.
struct TcpAddr {
    /// `HOST:PORT`.
    addr: String,
    /// Whether only this machine can reach it. Of names only `localhost` is known for that.
    loopback: bool,
}

fn tcp_addr(value: Value<'_>) -> Result<TcpAddr, Problem> {
    const HELP: &str =
        r#"write "HOST:PORT", such as "127.0.0.1:9418" or "[::1]:9418", or only a port for 127.0.0.1"#;
    let text = value.string().map_err(|problem| problem.help(HELP))?;
    let wrong = |why: &str| {
        Problem::at(
            value.head(),
            format!("{} is not a TCP address: {why}", value.shown()),
        )
    };
    if text.contains('/') || text.starts_with("unix:") {
        return Err(wrong("it is a path or a URL").help(r#"for a Unix socket write Unix(path: "…")"#));
    }
    parse_tcp(text.strip_prefix("tcp:").unwrap_or(&text)).map_err(|why| wrong(why).help(HELP))
}

fn parse_tcp(text: &str) -> Result<TcpAddr, &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some(split) => split,
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => ("127.0.0.1", text),
        None => return Err("it has no port"),
    };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => Some(IpAddr::V6(
            host.parse()
                .map_err(|_| "no IPv6 address stands in the brackets")?,
        )),
        None if host.contains(':') => return Err("an IPv6 address stands in brackets"),
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
            let parsed = parse_tcp(text).unwrap_or_else(|why| panic!("{text}: {why}"));
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
            assert!(parse_tcp(text).is_err(), "{text}");
        }
    }
}
