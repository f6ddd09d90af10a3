//! A name server that knows one name, at the port that resolv.conf(5) cannot change.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{
    base::{Message, MessageBuilder, Rtype, iana::Rcode, name::Name},
    rdata::A,
};

/// It listens as long as the test runs.
pub struct NameServer {
    pub address: Ipv4Addr,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// One that says of `name` that it is this machine. Only root may use the port.
    pub fn start(name: &str) -> io::Result<Self> {
        // Any address of the loopback will do; machines have name servers at the usual ones, and so may other tests.
        let mut addresses = (1..=250).map(|last| Ipv4Addr::new(127, 101, 0, last));
        let bound = addresses.find_map(|ip| match UdpSocket::bind((ip, 53)) {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => None,
            bound => Some(bound.map(|socket| (ip, socket))),
        });
        let (address, socket) = bound.ok_or(io::ErrorKind::AddrInUse)??;
        let asked = Arc::new(AtomicUsize::new(0));
        let name: Name<Vec<u8>> = name.parse().unwrap();
        let counter = asked.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                counter.fetch_add(1, Ordering::SeqCst);
                let question = Message::from_octets(buffer[..length].to_vec()).unwrap();
                socket.send_to(&answer(&question, &name), peer).unwrap();
            }
        });
        Ok(Self { address, asked })
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(question: &Message<Vec<u8>>, name: &Name<Vec<u8>>) -> Vec<u8> {
    let sole = question.sole_question().unwrap();
    let known = *sole.qname() == *name;
    let rcode = if known { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut answer = MessageBuilder::new_vec().start_answer(question, rcode).unwrap();
    if known && sole.qtype() == Rtype::A {
        answer.push((name, 60, A::new(Ipv4Addr::LOCALHOST))).unwrap();
    }
    answer.finish()
}
