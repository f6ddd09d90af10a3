//! Sockets that systemd passes on, see sd_listen_fds(3).

use std::path::Path;

use super::{Error, Socket};
use crate::{
    base::{address::TcpAddr, name::AbsPath},
    config::Listener,
};

/// The sockets that systemd has passed on to this process, by the protocol of sd_listen_fds(3), each with a listener for the case
/// that the configuration does not name its address.
pub fn inherited() -> Result<Vec<(Listener, Socket)>, Error> {
    let mut passed = listenfd::ListenFd::from_env();
    (0..passed.len())
        .map(|index| {
            take(&mut passed, index).map_err(|reason| Error::Inherited {
                number: index + 1,
                reason,
            })
        })
        .collect()
}

/// Add to `listeners` those that systemd has `passed` on, unless their addresses are named already.
pub fn mention(listeners: &mut Vec<Listener>, passed: &[Listener]) -> Result<(), Error> {
    for (index, socket) in passed.iter().enumerate() {
        if listeners.iter().any(|named| named.address() == socket.address()) {
            continue;
        }
        if !socket.address().is_local() {
            return Err(Error::Inherited {
                number: index + 1,
                reason: format!(
                    "{0} can be reached from other hosts, so it needs a token: write Tcp(addr: \"{0}\", \
                     token_file: \"…\") into `listen`",
                    socket.address()
                ),
            });
        }
        listeners.push(socket.clone());
    }
    Ok(())
}

fn take(passed: &mut listenfd::ListenFd, index: usize) -> Result<(Listener, Socket), String> {
    if let Ok(Some(socket)) = passed.take_unix_listener(index) {
        let addr = socket.local_addr().map_err(|err| err.to_string())?;
        let path = addr.as_pathname().ok_or("it has no path")?;
        let path = AbsPath::resolve(Path::new("/"), path).map_err(|err| err.to_string())?;
        let listener = Listener::Unix {
            path,
            mode: 0,
            group: None,
        };
        return Ok((listener, Socket::Unix(socket, None)));
    }
    match passed.take_tcp_listener(index) {
        Ok(Some(socket)) => {
            let addr = socket.local_addr().map_err(|err| err.to_string())?;
            let listener = Listener::Tcp {
                addr: TcpAddr::parse(&addr.to_string())?,
                token_file: None,
            };
            Ok((listener, Socket::Tcp(socket, None)))
        }
        _ => Err("it is neither a listening Unix stream socket nor a listening TCP socket".into()),
    }
}
