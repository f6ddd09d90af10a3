//! Listeners.

use crate::{
    base::{address::TcpAddr, name::AbsPath},
    config::{
        Listener,
        form::{
            self, ADDRESS, Form, Kind, MODE, Problem, Read, SECRET, SOCKET, Spanned, TEXT, Value, fields,
        },
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
    let address = |listener: &Listener| listener.address().to_string();
    let listeners = form::listeners(form, value, ("a listener", example), &KINDS, address)?;
    Some(listeners.into_iter().map(|(listener, _)| listener).collect())
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
