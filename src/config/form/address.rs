//! Addresses of sockets.

use std::{collections::BTreeMap, ops::Range};

use super::{Form, Kind, Problem, Read, Spanned, Value};
use crate::base::{address::TcpAddr, name::AbsPath};

pub(crate) const SOCKET: Kind<AbsPath> =
    Kind::new("path", |value, around| short_enough(value, around.path(value)?));
pub(crate) const ADDRESS: Kind<TcpAddr> = Kind::new(
    r#"`"HOST:PORT"`, `"[::1]:PORT"`, or `"PORT"` of 127.0.0.1"#,
    |value, _| tcp_addr(value),
);

/// The longest path of a Unix socket: unix(7), `sockaddr_un.sun_path` without its NUL.
const MAX_SOCKET_PATH: usize = 107;

/// A list such as `example` of listeners, each of them `what`, with where its address stands: no two have the same one.
pub(crate) fn listeners<L>(
    form: &mut Form<'_>,
    value: Value<'_>,
    (what, example): (&str, &str),
    known: &[(&'static str, bool, Read<Spanned<L>>)],
    address: impl Fn(&L) -> String,
) -> Option<Vec<Spanned<L>>> {
    let list = form.keep(value.list().map_err(|problem| problem.help(example)))?;
    let mut seen = BTreeMap::<String, Range<usize>>::new();
    let mut out = Vec::new();
    for value in list {
        let Some((listener, at)) = form.one_of(value, what, known) else {
            continue;
        };
        let address = address(&listener);
        // Of port 0 the system makes another port each time.
        let first = seen.get(&address).filter(|_| !address.ends_with(":0"));
        if let Some(first) = first.cloned() {
            let message = format!("two listeners have the address {address}");
            let problem = Problem::twice(at.clone(), first, message);
            form.problems.push(problem.help("remove or change one of them"));
        } else {
            seen.insert(address, at.clone());
        }
        out.push((listener, at));
    }
    Some(out)
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
