//! Listeners.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Check,
    choice::variant,
    field::{Fields, TCP, UNIX},
    value::{filled, mode},
};
use crate::{
    base::{address::TcpAddr, name::AbsPath},
    config::{Listener, raw::Value, report::Problem},
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
            let address = listener.address().to_string();
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
        let addr = addr?;
        if !addr.loopback && !fields.has("token_file") {
            let problem = Problem::at(
                at.clone(),
                format!("anybody who reaches {} could start runs", addr.addr),
            )
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
    TcpAddr::parse(text.strip_prefix("tcp:").unwrap_or(&text)).map_err(|why| wrong(why).help(HELP))
}
