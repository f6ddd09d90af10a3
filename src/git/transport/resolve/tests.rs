//! Names are looked up in files and at name servers of the tests' own, by UDP and TCP on the loopback.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use domain::{
    base::{Message, MessageBuilder, iana::Rcode},
    rdata::{A, Aaaa, Cname},
};

use super::*;

/// What a name server does when it is asked for a name.
#[derive(Debug, Clone)]
enum Act {
    Has(Vec<IpAddr>),
    Alias(&'static str, Vec<IpAddr>),
    /// Too long for UDP.
    Long(Vec<IpAddr>),
    /// It answers questions for IPv4 only, and never the others.
    Ipv4Only(IpAddr),
    /// Somebody else is quicker: first comes an answer with the wrong number, then the right one.
    Spoofed(IpAddr),
    Says(Rcode),
    Silent,
}

/// A name server that knows what it is told, and what it was asked.
struct NameServer {
    dir: tempfile::TempDir,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    fn start(zone: &[(&str, Act)]) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let zone: BTreeMap<String, Act> = zone.iter().map(|(n, a)| ((*n).into(), a.clone())).collect();
        let zone = Arc::new(zone);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (zone_of_udp, asked_of_udp) = (zone.clone(), asked.clone());
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                for answer in answers(&buffer[..length], &zone_of_udp, &asked_of_udp, false) {
                    udp.send_to(&answer, peer).unwrap();
                }
            }
        });
        let asked_of_tcp = asked.clone();
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut bytes = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut bytes).unwrap();
                for answer in answers(&bytes, &zone, &asked_of_tcp, true) {
                    let length = u16::try_from(answer.len()).unwrap();
                    stream
                        .write_all(&[&length.to_be_bytes(), &answer[..]].concat())
                        .unwrap();
                }
            }
        });
        let server = Self {
            dir: crate::machine::tempdir().unwrap(),
            port,
            asked,
        };
        server.write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        );
        server
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn look_up(&self, host: &str) -> io::Result<Vec<String>> {
        self.look_up_within(host, Duration::from_secs(20))
    }

    fn look_up_within(&self, host: &str, limit: Duration) -> io::Result<Vec<String>> {
        let files = Files {
            hosts: self.dir.path().join("hosts"),
            resolv_conf: self.dir.path().join("resolv.conf"),
            port: self.port,
        };
        let found = files.look_up(host, Deadline::new(limit))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// What it was asked since the last time, without order: the families are asked for at once.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

fn answers(
    question: &[u8],
    zone: &BTreeMap<String, Act>,
    asked: &Mutex<Vec<String>>,
    tcp: bool,
) -> Vec<Vec<u8>> {
    let question = Message::from_octets(question.to_vec()).unwrap();
    let sole = question.sole_question().unwrap();
    let (name, family) = (sole.qname().to_string(), sole.qtype());
    asked
        .lock()
        .unwrap()
        .push(format!("{name} {family} {}", if tcp { "tcp" } else { "udp" }));
    let act = zone
        .get(&name.to_ascii_lowercase())
        .cloned()
        .unwrap_or(Act::Says(Rcode::NXDOMAIN));
    let answer = |rcode, alias: Option<&str>, addresses: &[IpAddr]| {
        let mut answer = MessageBuilder::new_vec().start_answer(&question, rcode).unwrap();
        let mut owner = sole.qname().to_string().parse::<Fqdn>().unwrap();
        if let Some(alias) = alias {
            let alias: Fqdn = alias.parse().unwrap();
            answer.push((&owner, 60, Cname::new(alias.clone()))).unwrap();
            owner = alias;
        }
        for address in addresses {
            match (address, family) {
                (IpAddr::V4(ip), Rtype::A) => answer.push((&owner, 60, A::new(*ip))).unwrap(),
                (IpAddr::V6(ip), Rtype::AAAA) => answer.push((&owner, 60, Aaaa::new(*ip))).unwrap(),
                _ => {}
            }
        }
        answer.finish()
    };
    match act {
        Act::Has(addresses) => vec![answer(Rcode::NOERROR, None, &addresses)],
        Act::Alias(alias, addresses) => vec![answer(Rcode::NOERROR, Some(alias), &addresses)],
        Act::Long(addresses) if tcp => vec![answer(Rcode::NOERROR, None, &addresses)],
        Act::Long(_) => {
            let mut bytes = answer(Rcode::NOERROR, None, &[]);
            // The bit TC.
            bytes[2] |= 2;
            vec![bytes]
        }
        Act::Ipv4Only(address) if family == Rtype::A => vec![answer(Rcode::NOERROR, None, &[address])],
        Act::Spoofed(address) => {
            let mut bytes = answer(Rcode::NOERROR, None, &["6.6.6.6".parse().unwrap()]);
            bytes[0] ^= 1;
            vec![bytes, answer(Rcode::NOERROR, None, &[address])]
        }
        Act::Says(rcode) => vec![answer(rcode, None, &[])],
        Act::Ipv4Only(_) | Act::Silent => vec![],
    }
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[test]
fn addresses_and_special_names_need_nobody() {
    let late = Deadline::new(Duration::from_secs(60));
    let find = |host: &str| {
        resolve(host, 7, late).map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    for host in ["localhost", "LOCALHOST", "localhost.", "app.localhost"] {
        assert_eq!(find(host).unwrap(), ["127.0.0.1:7", "[::1]:7"], "{host}");
    }
    assert_eq!(find("[::1]").unwrap(), ["[::1]:7"]);
    assert_eq!(find("10.0.0.1").unwrap(), ["10.0.0.1:7"]);
    assert_eq!(find("x.invalid").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!is_in("notlocalhost", "localhost"));
}

#[test]
fn name_servers_are_asked() {
    let server = NameServer::start(&[
        ("git.example", Act::Has(ips(&["127.0.0.7", "127.0.0.8"]))),
        ("six.example", Act::Has(ips(&["::1"]))),
        ("both.example", Act::Has(ips(&["127.0.0.7", "::1"]))),
        ("away.example", Act::Alias("real.example", ips(&["127.0.0.9"]))),
        ("long.example", Act::Long(ips(&["127.0.0.10"]))),
        ("half.example", Act::Ipv4Only("127.0.0.11".parse().unwrap())),
        ("spoofed.example", Act::Spoofed("127.0.0.12".parse().unwrap())),
    ]);
    for (host, expected) in [
        ("git.example", &["127.0.0.7", "127.0.0.8"][..]),
        ("GIT.example.", &["127.0.0.7", "127.0.0.8"]),
        ("six.example", &["::1"]),
        ("away.example", &["127.0.0.9"]),
        ("long.example", &["127.0.0.10"]),
        ("half.example", &["127.0.0.11"]),
        ("spoofed.example", &["127.0.0.12"]),
    ] {
        assert_eq!(server.look_up(host).unwrap(), expected, "{host}");
    }
    let both = server.look_up("both.example").unwrap();
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(server.asked().contains(&"long.example A tcp".to_owned()));
}

#[test]
fn the_file_of_hosts_comes_first() {
    let server = NameServer::start(&[]);
    server.write(
        "hosts",
        "# mine\n127.0.0.2 other Git.Example git # that is it\n\nnonsense\n::1 git\n127.0.0.2 git\n",
    );
    assert_eq!(server.look_up("git.example").unwrap(), ["127.0.0.2"]);
    let mut found = server.look_up("git.").unwrap();
    found.sort();
    assert_eq!(found, ["127.0.0.2", "::1"]);
    assert!(server.look_up("that").is_err(), "a comment has no names");
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn search_domains_are_tried_until_one_has_an_address() {
    let server = NameServer::start(&[
        ("git.b.example", Act::Has(ips(&["127.0.0.3"]))),
        ("broken.a.example", Act::Says(Rcode::SERVFAIL)),
        ("broken.b.example", Act::Has(ips(&["127.0.0.3"]))),
    ]);
    let conf = "nameserver 127.0.0.1\nsearch a.example b.example\noptions timeout:1 attempts:1\n";
    server.write("resolv.conf", conf);
    assert_eq!(server.look_up("git").unwrap(), ["127.0.0.3"]);
    let asked = [
        "git.a.example A udp",
        "git.a.example AAAA udp",
        "git.b.example A udp",
        "git.b.example AAAA udp",
    ];
    assert_eq!(server.asked(), asked);
    let err = server.look_up("broken").unwrap_err();
    assert_eq!(
        err.to_string(),
        "the name server 127.0.0.1 is of no use: it says SERVFAIL"
    );
}

#[test]
fn the_next_server_is_asked() {
    let server = NameServer::start(&[("git.example", Act::Has(ips(&["127.0.0.4"])))]);
    // Nobody listens at the first.
    let conf = "nameserver 127.0.0.99\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    server.write("resolv.conf", conf);
    assert_eq!(server.look_up("git.example").unwrap(), ["127.0.0.4"]);
}

#[test]
fn why_there_is_no_address() {
    let server = NameServer::start(&[
        ("empty.example", Act::Has(vec![])),
        ("refused.example", Act::Says(Rcode::REFUSED)),
        ("silent.example", Act::Silent),
    ]);
    for (host, kind, why) in [
        (
            "no.example",
            io::ErrorKind::NotFound,
            "the name server 127.0.0.1 knows no such name",
        ),
        ("empty.example", io::ErrorKind::NotFound, "it has no address"),
        (
            "refused.example",
            io::ErrorKind::Other,
            "the name server 127.0.0.1 is of no use: it says REFUSED",
        ),
        (
            "silent.example",
            io::ErrorKind::Other,
            "the name server 127.0.0.1 does not answer",
        ),
        ("a..b", io::ErrorKind::NotFound, "that is no host name"),
    ] {
        let err = server.look_up(host).unwrap_err();
        assert_eq!((err.kind(), err.to_string().as_str()), (kind, why), "{host}");
    }
    server.write(
        "resolv.conf",
        "nameserver 127.0.0.99\noptions timeout:1 attempts:1\n",
    );
    let err = server.look_up("git.example").unwrap_err();
    assert_eq!(err.to_string(), "there is no name server at 127.0.0.99");
}

#[test]
fn a_deadline_ends_it() {
    let server = NameServer::start(&[("silent.example", Act::Silent)]);
    server.write(
        "resolv.conf",
        "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n",
    );
    let began = std::time::Instant::now();
    let err = server
        .look_up_within("silent.example", Duration::from_millis(200))
        .unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(30));
}
