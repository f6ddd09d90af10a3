//! Listeners.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    base::{address::TcpAddr, name::AbsPath},
    config::{
        Listener,
        form::{ADDRESS, Form, Kind, MODE, Problem, Read, SECRET, SOCKET, Spanned, TEXT, Value, fields},
    },
};

fields! {
    /// A Unix socket.
    pub(super) struct UnixFields: "`Unix`" {
        /// Where the socket is; at most 107 bytes in full.
        path ("dir", "directory", "target", "worktree"): AbsPath = SOCKET, required r#""gitsocket.sock""#;
        /// Permissions of the socket: the users that may write to it may use the daemon.
        mode: u32 = MODE, or 0o600;
        /// The socket's group, by name or number.
        group: String = TEXT, without "the daemon's";
    }
}

fields! {
    /// A TCP socket.
    pub(super) struct TcpFields: "`Tcp`" {
        /// Where to listen.
        addr ("address"): TcpAddr = ADDRESS, required r#""127.0.0.1:9418""#;
        /// The file that holds the token which clients must send first.
        token_file: AbsPath = SECRET, without "none; required off the loopback interface";
    }
}

pub(super) const LISTENERS: Kind<Vec<Listener>> = Kind::many("list of `Unix(…)` and `Tcp(…)`", listeners);

fn listeners(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<Listener>> {
    let example = r#"write listen: [Unix(path: "gitsocket.sock")]"#;
    let list = form.keep(value.list().map_err(|problem| problem.help(example)))?;
    let mut seen = BTreeMap::<String, Range<usize>>::new();
    let mut out = Vec::new();
    for value in list {
        let Some((listener, at)) = form.one_of(value, "a listener", &KINDS) else {
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
            form.problems.push(problem);
        } else {
            seen.insert(address, at);
        }
        out.push(listener);
    }
    Some(out)
}

const KINDS: [(&str, bool, Read<Spanned<Listener>>); 2] = [("Unix", true, unix), ("Tcp", true, tcp)];

fn unix(form: &mut Form<'_>, value: Value<'_>) -> Option<Spanned<Listener>> {
    let fields: UnixFields<'_> = form.fields(value)?;
    let at = fields.path.at();
    let listener = Listener::Unix {
        path: fields.path.value?,
        mode: fields.mode.value?,
        group: fields.group.value,
    };
    Some((listener, at))
}

fn tcp(form: &mut Form<'_>, value: Value<'_>) -> Option<Spanned<Listener>> {
    let fields: TcpFields<'_> = form.fields(value)?;
    let at = fields.addr.at();
    let addr = fields.addr.value?;
    if !addr.loopback && !fields.token_file.is_there() {
        let problem = Problem::at(
            at.clone(),
            format!("everyone who can reach {} could start runs", addr.addr),
        )
        .label("not on the loopback interface")
        .help(r#"add token_file: "…", or listen on 127.0.0.1, [::1] or localhost"#);
        form.problems.push(problem);
    }
    let token_file = fields.token_file.value;
    Some((Listener::Tcp { addr, token_file }, at))
}
