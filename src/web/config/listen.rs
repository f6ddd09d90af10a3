//! Where the front listens.

use super::{Listener, Tls};
use crate::{
    base::{address::TcpAddr, name::AbsPath},
    config::form::{
        self, ADDRESS, BOOL, FILE, Form, Kind, MODE, Problem, Read, SOCKET, Spanned, TEXT, Value, fields,
    },
};

fields! {
    /// HTTP over TCP.
    pub(super) struct HttpFields: "`Http`" {
        /// Where to listen.
        addr ("address"): TcpAddr = ADDRESS, required r#""127.0.0.1:8080""#;
        /// Certificate and key for HTTPS.
        tls ("https", "ssl"): Tls = TLS, without "none; off the loopback interface, this or `plain`";
        /// `true` off the loopback interface: a proxy that is reached over a network of its own has the certificate.
        plain: bool = BOOL, or false;
    }
}

fields! {
    /// The certificate of the front. Both files are read again when they have changed.
    pub(super) struct TlsFields: "`tls`" {
        /// The certificate with its chain, as PEM.
        cert_file ("cert", "certificate", "ssl_certificate"): AbsPath = FILE, required r#""/etc/gitsocket-web/web.pem""#;
        /// The key of that certificate, without passphrase, as PEM.
        key_file ("key", "private_key", "ssl_certificate_key"): AbsPath = FILE, required r#""/etc/gitsocket-web/web.key""#;
    }
}

fields! {
    /// HTTP over a Unix socket, for a proxy on this machine.
    pub(super) struct UnixFields: "`Unix`" {
        /// Where the socket is; at most 107 bytes in full.
        path: AbsPath = SOCKET, required r#""/run/gitsocket-web/web.sock""#;
        /// Permissions of the socket: the proxy must be able to write to it.
        mode: u32 = MODE, or 0o660;
        /// The socket's group, by name or number.
        group: String = TEXT, without "the front's";
    }
}

pub(super) const LISTENERS: Kind<Vec<Spanned<Listener>>> =
    Kind::many("list of `Http(…)` and `Unix(…)`", listeners);
const TLS: Kind<Tls> = Kind::many("`(…)`", |form, value| {
    let fields: TlsFields<'_> = form.fields(value)?;
    Some(Tls {
        cert_file: fields.cert_file.value?.as_path().into(),
        key_file: fields.key_file.value?.as_path().into(),
    })
});

const KINDS: [(&str, bool, Read<Spanned<Listener>>); 2] = [("Http", true, http), ("Unix", true, unix)];

fn listeners(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<Spanned<Listener>>> {
    let example = r#"write listen: [Http(addr: "127.0.0.1:8080")]"#;
    let address = |listener: &Listener| match listener {
        Listener::Http { addr, .. } => addr.clone(),
        Listener::Unix { path, .. } => path.display().to_string(),
    };
    form::listeners(form, value, ("a listener of the front", example), &KINDS, address)
}

fn http(form: &mut Form<'_>, value: Value<'_>) -> Option<Spanned<Listener>> {
    let fields: HttpFields<'_> = form.fields(value)?;
    let (at, tls, plain) = (fields.addr.at(), &fields.tls, fields.plain.value?);
    if tls.is_there() && plain {
        let problem = Problem::at(fields.plain.name_at.clone(), "`tls` gives a certificate as well")
            .help("remove `plain`, or remove `tls`");
        form.problems.push(problem);
    }
    let addr = fields.addr.value?;
    if !addr.loopback && !plain && !tls.is_there() && fields.plain.is_right && !tls.is_misspelt {
        let problem = Problem::at(
            at.clone(),
            format!("requests to {} could be read and changed on the way", addr.addr),
        )
        .label("not on the loopback interface")
        .help(
            "add tls: (cert_file: \"…\", key_file: \"…\"); or plain: true, if a proxy in front has the certificate",
        );
        form.problems.push(problem);
    }
    let listener = Listener::Http {
        addr: addr.addr,
        plain,
        tls: fields.tls.value,
    };
    Some((listener, at))
}

fn unix(form: &mut Form<'_>, value: Value<'_>) -> Option<Spanned<Listener>> {
    let fields: UnixFields<'_> = form.fields(value)?;
    let at = fields.path.at();
    let listener = Listener::Unix {
        path: fields.path.value?.as_path().into(),
        mode: fields.mode.value?,
        group: fields.group.value,
    };
    Some((listener, at))
}
