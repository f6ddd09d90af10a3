//! What resolv.conf(5) says: which servers to ask, how patiently, and which names a short name may stand for.

use std::{
    io,
    net::{SocketAddr, SocketAddrV6},
    path::Path,
    time::Duration,
};

use domain::base::Name;
use resolv_conf::{Config, ScopedIp};
use rustix::net::{AddressFamily, SocketType, netdevice};

use crate::base::bounded::{self, RULES};

/// A name as it is asked for.
pub(super) type Fqdn = Name<Vec<u8>>;

/// The number that glibc uses.
const MAX_SERVERS: usize = 3;
/// The number that glibc takes; more would be a mistake that costs minutes.
const MAX_ATTEMPTS: u32 = 5;
const MAX_TIMEOUT: u32 = 30;

/// Name servers, and how to ask them.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    pub(super) addresses: Vec<SocketAddr>,
    /// How long each may take to answer.
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    /// Whether to ask by TCP from the start (`use-vc`).
    pub(super) by_tcp: bool,
    /// Whether IPv6 addresses are not to be asked for (`no-aaaa`).
    pub(super) only_ipv4: bool,
    search: Vec<String>,
    ndots: usize,
}

impl Servers {
    /// Read `file`. Without it, the server is the one of this machine; a line that is not understood does not count.
    pub(super) fn read(file: &Path, port: u16) -> io::Result<Self> {
        let text = match bounded::read(file, RULES) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", file.display())))?,
        };
        let (config, _errors) = Config::parse_with_errors(&text);
        Ok(Self {
            addresses: config
                .get_nameservers_or_local()
                .iter()
                .take(MAX_SERVERS)
                .map(|server| address(server, port))
                .collect(),
            timeout: Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT).into()),
            attempts: config.attempts.clamp(1, MAX_ATTEMPTS),
            by_tcp: config.use_vc,
            only_ipv4: config.no_aaaa,
            search: config.get_last_search_or_domain().cloned().collect(),
            ndots: config.ndots as usize,
        })
    }

    /// The names that `host` may stand for, the likeliest first. What is no name of a host is none of them.
    pub(super) fn names(&self, host: &str) -> Vec<Fqdn> {
        let fqdn = |text: &str| text.parse::<Fqdn>().ok();
        let whole = fqdn(host);
        if host.ends_with('.') || whole.is_none() {
            return whole.into_iter().collect();
        }
        let searched = self.search.iter().filter(|domain| *domain != ".");
        let searched =
            searched.filter_map(|domain| fqdn(&format!("{host}.{}", domain.trim_start_matches('.'))));
        if host.matches('.').count() >= self.ndots {
            whole.into_iter().chain(searched).collect()
        } else {
            searched.chain(fqdn(host)).collect()
        }
    }
}

fn address(server: &ScopedIp, port: u16) -> SocketAddr {
    match server {
        ScopedIp::V4(ip) => (*ip, port).into(),
        ScopedIp::V6(ip, scope) => {
            let scope = scope.as_deref().and_then(interface).unwrap_or(0);
            SocketAddrV6::new(*ip, port, 0, scope).into()
        }
    }
}

/// The number of an interface, as link-local addresses need it.
fn interface(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| {
        let any = rustix::net::socket(AddressFamily::INET6, SocketType::DGRAM, None).ok()?;
        netdevice::name_to_index(any, name).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Servers {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Servers::read(file.path(), 53).unwrap()
    }

    #[test]
    fn the_file_is_taken_as_glibc_does() {
        let servers = read(
            "# by hand\nnameserver 10.0.0.1\nnonsense here\nnameserver fe80::1%1\nnameserver 10.0.0.3\n\
             nameserver 10.0.0.4\noptions timeout:2 attempts:99 use-vc no-aaaa edns0 trust-ad\n",
        );
        let shown: Vec<String> = servers.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[fe80::1%1]:53", "10.0.0.3:53"]);
        assert_eq!((servers.timeout.as_secs(), servers.attempts), (2, 5));
        assert!(servers.by_tcp && servers.only_ipv4);
        for nothing in [read(""), Servers::read(Path::new("/no/such/file"), 53).unwrap()] {
            let shown: Vec<String> = nothing.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(shown, ["127.0.0.1:53", "[::1]:53"]);
        }
        assert_eq!(
            read("nameserver fe80::1%lo").addresses,
            ["[fe80::1%1]:53".parse().unwrap()]
        );
    }

    #[test]
    fn short_names_are_searched_for() {
        let search = "search a.example b.example.\n";
        let many = format!("{search}options ndots:5\n");
        for (file, host, expected) in [
            (search, "git", &["git.a.example", "git.b.example", "git"][..]),
            (search, "git.x", &["git.x", "git.x.a.example", "git.x.b.example"]),
            (search, "git.x.", &["git.x"]),
            (&many, "git.x", &["git.x.a.example", "git.x.b.example", "git.x"]),
            ("domain c.example\n", "git", &["git.c.example", "git"]),
            ("search .\n", "git", &["git"]),
            ("", "git", &["git"]),
            (search, "", &[]),
            (search, "a..b", &[]),
            (search, &"x".repeat(64), &[]),
        ] {
            let names: Vec<String> = read(file).names(host).iter().map(ToString::to_string).collect();
            assert_eq!(names, expected, "{host:?} with {file:?}");
        }
    }
}
