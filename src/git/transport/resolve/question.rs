//! One question to name servers: by UDP, and by TCP where the answer is too long for that (RFC 1035, RFC 7766).
//!
//! An answer counts only if it comes from the server that was asked, to the port that asked, with the number and the
//! question that were sent. What it says is read by the crate `domain`.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use domain::{
    base::{Message, MessageBuilder, Rtype, iana::Rcode, name::ToName as _},
    rdata::{A, Aaaa},
};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::servers::{Fqdn, Servers};
use crate::git::transport::{Deadline, Timed};

/// No answer without EDNS is longer, over UDP.
const LONGEST_DATAGRAM: usize = 512;

/// Which addresses of one family does a name have?
pub(super) struct Question(Message<Vec<u8>>);

/// Why a server's answer is none.
enum Useless {
    /// The server says that the name does not exist: the others would say the same.
    NoSuchName,
    /// The server is of no use; the next may be.
    Server(io::Error),
}

impl From<io::Error> for Useless {
    fn from(err: io::Error) -> Self {
        Self::Server(err)
    }
}

impl Question {
    /// Ask for the addresses of `family` that `name` has.
    pub(super) fn new(name: &Fqdn, family: Rtype) -> io::Result<Self> {
        let mut id = [0; 2];
        SystemRandom::new()
            .fill(&mut id)
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(u16::from_be_bytes(id));
        message.header_mut().set_rd(true);
        let mut message = message.question();
        message.push((name, family)).map_err(io::Error::other)?;
        Ok(Self(message.into_message()))
    }

    /// Ask one server after the other until one has an answer. No address is an answer, too: the error is
    /// [`io::ErrorKind::NotFound`] only if there is no such name.
    pub(super) fn ask(&self, servers: &Servers, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::other("there is no name server");
        for _ in 0..servers.attempts {
            for &server in &servers.addresses {
                let patience = servers.timeout.min(deadline.left()?);
                match self.exchange(server, servers.by_tcp, Deadline::new(patience)) {
                    Ok(found) => return Ok(found),
                    Err(Useless::NoSuchName) => {
                        let why = format!("the name server {} knows no such name", server.ip());
                        return Err(io::Error::new(io::ErrorKind::NotFound, why));
                    }
                    Err(Useless::Server(err)) => last = explain(server, &err),
                }
            }
        }
        // Not that the deadline passed, which is another error.
        deadline.left()?;
        Err(last)
    }

    fn exchange(&self, server: SocketAddr, by_tcp: bool, deadline: Deadline) -> Result<Vec<IpAddr>, Useless> {
        let mut answer = if by_tcp {
            self.by_tcp(server, deadline)?
        } else {
            self.by_udp(server, deadline)?
        };
        if answer.header().tc() && !by_tcp {
            answer = self.by_tcp(server, deadline)?;
        }
        match answer.header().rcode() {
            Rcode::NOERROR => Ok(addresses(&answer).map_err(io::Error::other)?),
            Rcode::NXDOMAIN => Err(Useless::NoSuchName),
            other => Err(io::Error::other(format!("it says {other}")).into()),
        }
    }

    fn by_udp(&self, server: SocketAddr, deadline: Deadline) -> io::Result<Message<Vec<u8>>> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.send(self.0.as_slice())?;
        let mut buffer = [0; LONGEST_DATAGRAM];
        loop {
            socket.set_read_timeout(Some(deadline.left()?))?;
            let length = socket.recv(&mut buffer)?;
            // Whatever else comes is forged.
            if let Some(answer) = self.answer(buffer[..length].to_vec()) {
                return Ok(answer);
            }
        }
    }

    fn by_tcp(&self, server: SocketAddr, deadline: Deadline) -> io::Result<Message<Vec<u8>>> {
        let left = deadline.left()?.max(Duration::from_millis(1));
        let mut stream = Timed::new(TcpStream::connect_timeout(&server, left)?, deadline);
        let question = self.0.as_slice();
        let length = u16::try_from(question.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), question].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut bytes)?;
        self.answer(bytes)
            .ok_or_else(|| io::Error::other("it answers another question"))
    }

    fn answer(&self, bytes: Vec<u8>) -> Option<Message<Vec<u8>>> {
        let message = Message::from_octets(bytes).ok()?;
        message.is_answer(&self.0).then_some(message)
    }
}

/// The addresses in `answer` of the name asked for, or of the one that it is an alias of.
fn addresses(answer: &Message<Vec<u8>>) -> Result<Vec<IpAddr>, domain::base::wire::ParseError> {
    let Some(name) = answer.canonical_name() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for record in answer.answer()?.limit_to_in::<A>() {
        let record = record?;
        if record.owner().name_eq(&name) {
            found.push(record.data().addr().into());
        }
    }
    for record in answer.answer()?.limit_to_in::<Aaaa>() {
        let record = record?;
        if record.owner().name_eq(&name) {
            found.push(record.data().addr().into());
        }
    }
    Ok(found)
}

/// What `err` means that ended the conversation with `server`. Its kind says nothing about the deadline of the whole.
fn explain(server: SocketAddr, err: &io::Error) -> io::Error {
    let server = server.ip();
    io::Error::other(match err.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("the name server {server} does not answer")
        }
        io::ErrorKind::ConnectionRefused => format!("there is no name server at {server}"),
        _ => format!("the name server {server} is of no use: {err}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a server sends, it is read or refused.
    #[test]
    fn answers_of_strangers_do_no_harm() {
        let name: Fqdn = "git.example".parse().unwrap();
        let question = Question::new(&name, Rtype::A).unwrap();
        let mut answer = MessageBuilder::new_vec()
            .start_answer(&question.0, Rcode::NOERROR)
            .unwrap();
        let alias: Fqdn = "real.example".parse().unwrap();
        answer
            .push((&name, 60, domain::rdata::Cname::new(alias.clone())))
            .unwrap();
        answer
            .push((&alias, 60, A::new(Ipv4Addr::new(127, 0, 0, 7))))
            .unwrap();
        let good = answer.finish();
        let read = |bytes: &[u8]| question.answer(bytes.to_vec()).map(|answer| addresses(&answer));
        assert_eq!(read(&good).unwrap().unwrap(), [Ipv4Addr::new(127, 0, 0, 7)]);
        let mut accepted = 0;
        for at in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bytes = good.clone();
                bytes[at] = value;
                accepted += usize::from(read(&bytes).is_some());
            }
            assert!(read(&good[..at]).is_none_or(|read| read.is_err()), "cut at {at}");
        }
        assert!(accepted > 1000, "{accepted}");
        // An alias that leads to itself ends.
        let mut circle = MessageBuilder::new_vec()
            .start_answer(&question.0, Rcode::NOERROR)
            .unwrap();
        circle
            .push((&name, 60, domain::rdata::Cname::new(name.clone())))
            .unwrap();
        assert_eq!(read(&circle.finish()).unwrap().unwrap(), Vec::<IpAddr>::new());
    }
}
