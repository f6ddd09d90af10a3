//! Names of hosts become addresses, by `/etc/hosts` and the name servers that `/etc/resolv.conf` names.
//!
//! Everything is done here, before a [`Deadline`], and no name service of the system is asked: getaddrinfo(3) loads
//! modules that nsswitch.conf names, which a static binary can only do where its maker's libraries are, and cannot be
//! interrupted. The files are read again for each name; answers are not kept.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use domain::base::Rtype;

use self::{
    question::Question,
    servers::{Fqdn, Servers},
};
use super::Deadline;
use crate::base::bounded::{self, LIST};

mod question;
mod servers;

#[cfg(test)]
mod tests;

/// When one family of addresses is known, as long is waited for the other: some servers never answer for one of them.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

/// The addresses of `host`: a name, or an address with or without brackets. The best ones come first.
pub fn resolve(host: &str, port: u16, deadline: Deadline) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        // RFC 6761, section 6.3; where /etc/hosts is missing, as in small containers, nothing else knows.
        Err(_) if is_in(host, "localhost") => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        // Section 6.4.
        Err(_) if is_in(host, "invalid") => {
            let why = "no host has a name that ends in .invalid";
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        Err(_) => Files::of_the_system().look_up(host, deadline)?,
    };
    Ok(addresses
        .into_iter()
        .map(|address| (address, port).into())
        .collect())
}

/// Where it is written what names mean.
struct Files {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// Where name servers listen: 53, except in tests.
    port: u16,
}

impl Files {
    fn of_the_system() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: 53,
        }
    }

    fn look_up(&self, host: &str, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
        let mut found = in_hosts(&self.hosts, host);
        if found.is_empty() {
            let servers = Servers::read(&self.resolv_conf, self.port)?;
            found = ask_all_names(&servers, host, deadline)?;
        }
        found.sort_by_key(preference);
        Ok(found)
    }
}

/// Without port and scope: an address that cannot be reached from here comes last, and IPv6 before IPv4 (RFC 6724, rules
/// 1 and 6). Connecting a datagram socket sends nothing; it only looks for a route.
fn preference(address: &IpAddr) -> (bool, bool) {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let routed = UdpSocket::bind(any).and_then(|socket| socket.connect((*address, 53)));
    (routed.is_err(), address.is_ipv4())
}

fn is_in(host: &str, domain: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// All addresses that `file`, see hosts(5), has for `host`. A file that is not there has none.
fn in_hosts(file: &Path, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let text = String::from_utf8_lossy(&bounded::read(file, LIST).unwrap_or_default()).into_owned();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else {
            continue;
        };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// What the first of the names that `host` may stand for has, by the search list of resolv.conf(5). A server that does
/// not answer ends it: what the next name has would not be what was meant.
fn ask_all_names(servers: &Servers, host: &str, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
    let mut empty = io::Error::new(io::ErrorKind::NotFound, "that is no host name");
    for name in servers.names(host) {
        match ask_both_families(servers, &name, deadline) {
            Ok(found) => return Ok(found),
            Err(err) if err.kind() == io::ErrorKind::NotFound => empty = err,
            Err(err) => return Err(err),
        }
    }
    Err(empty)
}

fn ask_both_families(servers: &Servers, name: &Fqdn, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
    let families: &[Rtype] = if servers.only_ipv4 {
        &[Rtype::A]
    } else {
        &[Rtype::A, Rtype::AAAA]
    };
    let (answers, wait) = mpsc::channel();
    for family in families {
        let (servers, answers) = (servers.clone(), answers.clone());
        let question = Question::new(name, *family)?;
        thread::Builder::new().name("resolve".into()).spawn(move || {
            let _gone = answers.send(question.ask(&servers, deadline));
        })?;
    }
    drop(answers);
    let (mut found, mut failed) = (Vec::new(), None);
    for _ in families {
        let left = if found.is_empty() {
            deadline.left()?
        } else {
            OTHER_FAMILY.min(deadline.left().unwrap_or_default())
        };
        match wait.recv_timeout(left) {
            Ok(Ok(addresses)) => found.extend(addresses),
            // That there is no such name counts least.
            Ok(Err(err)) if failed.is_none() || err.kind() != io::ErrorKind::NotFound => failed = Some(err),
            Ok(Err(_)) => {}
            Err(_) if found.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => break,
        }
    }
    match failed {
        _ if !found.is_empty() => Ok(found),
        Some(err) => Err(err),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
    }
}
