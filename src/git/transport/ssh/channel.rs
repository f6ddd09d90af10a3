//! One command on the host: its input and output go through a socket pair, its other words to whatever is interested,
//! and how it ended is kept for the moment when that is asked.
//!
//! Invariant: the [`Ending`] is known before our end of the socket pair is closed.

use std::{
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, mpsc::SyncSender},
    time::Duration,
};

use russh::{ChannelMsg, ChannelOpenFailure, ChannelReadHalf, client::Handle};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream as Socket,
    time::timeout,
};

use super::{
    Error,
    end::{self, Ended},
    guard::Guard,
    remote::Remote,
    words::Words,
};
use crate::base::mutex;

#[derive(Debug)]
pub(super) struct Request {
    /// Our end of the socket pair, non-blocking.
    pub(super) socket: UnixStream,
    /// The command, for the host's shell.
    pub(super) command: String,
    /// What the command says besides its output.
    pub(super) words: Words,
    /// Told when the host has opened a channel; dropped if it does not, once the end is written down.
    pub(super) opened: SyncSender<()>,
    pub(super) ending: Arc<Ending>,
}

pub(super) async fn serve(handle: Arc<Handle<Guard>>, request: Request, mut end: end::Receiver) {
    let Request {
        socket,
        command,
        mut words,
        opened,
        ending,
    } = request;
    let Ok(socket) = Socket::from_std(socket) else {
        return;
    };
    let (mut input, mut output) = socket.into_split();
    let mut state = State::default();
    let talk = async {
        let channel = handle.channel_open_session().await?;
        // There is room for the one message, so this does not block.
        opened.send(()).ok();
        // A host that does not accept it speaks an older protocol; an answer to it is not waited for.
        channel.set_env(false, "GIT_PROTOCOL", "version=2").await?;
        channel.exec(true, command).await?;
        let (mut from, to) = channel.split();
        let pass = async {
            let mut buf = vec![0; 32 * 1024];
            while let Ok(length @ 1..) = input.read(&mut buf).await {
                if to.data_bytes(buf[..length].to_vec()).await.is_err() {
                    // The other half knows why.
                    std::future::pending::<()>().await;
                }
            }
        };
        let over = tokio::select! {
            () = pass => Some(Outcome::Dropped),
            over = listen(&mut from, &mut output, &mut words, &mut state) => over,
        };
        // First this: what still comes would wait for a listener.
        drop(from);
        to.close().await.ok();
        Ok::<_, russh::Error>(over)
    };
    let outcome = match talk.await {
        Ok(Some(outcome)) => outcome,
        Err(russh::Error::ChannelOpenFailure(why)) => Outcome::NoChannel(why),
        Ok(None) | Err(_) => match timeout(EXIT, end::ended(&mut end)).await {
            Ok(Ended::Said(why)) if !why.is_empty() => Outcome::Lost(format!("the host closed it: {why}")),
            Ok(Ended::Lost(why)) => Outcome::Lost(why),
            _ => Outcome::Lost("the host closed it".into()),
        },
    };
    words.finish();
    ending.set(End {
        outcome,
        started: state.started,
        said: words.said(),
    });
}

#[derive(Debug, Default)]
struct State {
    /// Output came that may be git's protocol.
    started: bool,
    /// Output came that is not.
    strange: bool,
    /// The input was closed by the host.
    eof: bool,
    status: Option<String>,
}

/// How long a host may take from the end of the output to the exit status, or to say more when it began strangely.
const EXIT: Duration = Duration::from_secs(2);

/// Pass the command's output on until it ends; nothing if the connection ended.
async fn listen(
    from: &mut ChannelReadHalf,
    output: &mut (impl AsyncWrite + Unpin),
    words: &mut Words,
    state: &mut State,
) -> Option<Outcome> {
    loop {
        let message = if state.eof || state.strange {
            // After words that are not git's, git may well run, and wait for us as we would for it.
            timeout(EXIT, from.wait())
                .await
                .unwrap_or(Some(ChannelMsg::Close))
        } else {
            from.wait().await
        };
        match message? {
            ChannelMsg::Data { data } => {
                // Each of git's packets begins with its length in hexadecimal.
                if !state.started && !data.iter().take(4).all(u8::is_ascii_hexdigit) {
                    state.strange = true;
                }
                if state.strange {
                    words.hear(&data);
                } else {
                    state.started = true;
                    if output.write_all(&data).await.is_err() {
                        return Some(Outcome::Dropped);
                    }
                }
            }
            ChannelMsg::ExtendedData { data, .. } => words.hear(&data),
            ChannelMsg::ExitStatus { exit_status } => {
                state.status = Some(format!("exit status {exit_status}"))
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                state.status = Some(format!("signal {signal_name:?}"));
            }
            // Nothing else was asked for that can fail.
            ChannelMsg::Failure => return Some(Outcome::NoExec),
            ChannelMsg::Eof => state.eof = true,
            ChannelMsg::Close => {
                return Some(if state.strange {
                    Outcome::Strange
                } else {
                    Outcome::Exited(state.status.take())
                });
            }
            _ => {}
        }
    }
}

/// How a command ended, once that is known.
#[derive(Debug)]
pub(super) struct Ending {
    remote: Remote,
    end: Mutex<Option<End>>,
}

#[derive(Debug)]
struct End {
    outcome: Outcome,
    /// git's protocol was spoken.
    started: bool,
    said: String,
}

#[derive(Debug)]
enum Outcome {
    Exited(Option<String>),
    /// The command printed what is not git's protocol.
    Strange,
    NoChannel(ChannelOpenFailure),
    NoExec,
    Lost(String),
    /// The listener is gone.
    Dropped,
}

impl Ending {
    pub(super) fn new(remote: Remote) -> Self {
        Self {
            remote,
            end: Mutex::new(None),
        }
    }

    fn set(&self, end: End) {
        *mutex::lock(&self.end) = Some(end);
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// What went wrong, if the end was not a good one.
    pub(super) fn error(&self) -> Option<Error> {
        let Remote { peer, command, .. } = &self.remote;
        let (url, host) = (peer.url.clone(), peer.host.clone());
        let end = mutex::lock(&self.end);
        let lost = |why: &str| end::lost(&self.remote, why);
        let Some(End {
            outcome,
            started,
            said,
        }) = &*end
        else {
            return Some(lost("its thread ended"));
        };
        let said = said.clone();
        Some(match outcome {
            Outcome::Dropped => return None,
            // What is missing then, git's protocol knows better.
            Outcome::Exited(Some(status)) if *started && status == "exit status 0" => return None,
            Outcome::Exited(status) => {
                let status = status.clone().unwrap_or_else(|| "it hung up".into());
                if *started {
                    Error::BrokenOff { url, status, said }
                } else {
                    Error::NotServed { url, status, said }
                }
            }
            Outcome::Strange => Error::NotGit { url, said },
            Outcome::NoChannel(ChannelOpenFailure::ResourceShortage | ChannelOpenFailure::ConnectFailed) => {
                lost("the host opens no more channels")
            }
            Outcome::NoChannel(_) => Error::Exec {
                host,
                command: command.clone(),
            },
            Outcome::NoExec => Error::Exec {
                host,
                command: command.clone(),
            },
            Outcome::Lost(why) => lost(why),
        })
    }
}
