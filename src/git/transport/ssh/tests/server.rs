//! An SSH server for tests: russh's server half with our own upload-pack behind it, and a line to it that can be cut.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use russh::{
    Channel, ChannelId, MethodKind, MethodSet, Preferred,
    keys::{Certificate, PrivateKey, PublicKey},
    server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey},
};
use tokio::io::AsyncWriteExt as _;

/// What the server does when it is asked to run a command.
#[derive(Clone)]
pub(crate) enum Command {
    Serve(PathBuf),
    /// Say this on standard output and standard error, and end.
    Say(&'static str, &'static str, u32),
    /// Say this on standard output, and wait.
    Greet(&'static str),
    Refuse,
    Nothing,
}

#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) host_keys: Vec<PrivateKey>,
    pub(crate) certificates: Vec<Certificate>,
    /// The keys that `git` may log in with.
    pub(crate) accepts: Vec<PublicKey>,
    pub(crate) banner: Option<String>,
    /// Every key is right, but not enough.
    pub(crate) half: bool,
    /// The only way to exchange keys.
    pub(crate) key_exchange: Option<russh::kex::Name>,
    pub(crate) command: Command,
}

/// A server that runs until the test program ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// What clients asked for: environment and commands.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) ended: Mutex<mpsc::Receiver<()>>,
}

impl Server {
    pub(crate) fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (end, ended) = mpsc::channel();
        let config = Arc::new(server::Config {
            keys: plan.host_keys.clone(),
            certificates: plan.certificates.clone(),
            auth_rejection_time: Duration::ZERO,
            preferred: preferred(&plan),
            ..server::Config::default()
        });
        let shared = asked.clone();
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        thread::spawn(move || {
            for socket in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let client = Client {
                    plan: plan.clone(),
                    asked: shared.clone(),
                    channels: HashMap::new(),
                };
                let (config, end) = (config.clone(), end.clone());
                thread::spawn(move || {
                    serve(socket.unwrap(), config, client);
                    end.send(()).ok();
                });
            }
        });
        Self {
            port,
            asked,
            connections,
            ended: ended.into(),
        }
    }
}

fn preferred(plan: &Plan) -> Preferred {
    match plan.key_exchange {
        Some(only) => Preferred {
            kex: vec![only].into(),
            ..Preferred::DEFAULT
        },
        None => Preferred::DEFAULT,
    }
}

fn serve(socket: TcpStream, config: Arc<server::Config>, client: Client) {
    socket.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::from_std(socket).unwrap();
        if let Ok(running) = server::run_stream(config, socket, client).await {
            running.await.ok();
        }
    });
}

struct Client {
    plan: Plan,
    asked: Arc<Mutex<Vec<String>>>,
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl server::Handler for Client {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.plan.banner.clone())
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let offered = key.public_key.key_data();
        let known = self.plan.accepts.iter().any(|key| key.key_data() == offered);
        Ok(match known && user == "git" {
            _ if self.plan.half => Auth::Reject {
                proceed_with_methods: Some(MethodSet::from(&[MethodKind::KeyboardInteractive][..])),
                partial_success: true,
            },
            true => Auth::Accept,
            false => Auth::reject(),
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        _channel: ChannelId,
        name: &str,
        value: &str,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked.lock().unwrap().push(format!("{name}={value}"));
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = String::from_utf8(command.to_vec()).unwrap();
        self.asked.lock().unwrap().push(command);
        let channel = self.channels.remove(&id).unwrap();
        if matches!(self.plan.command, Command::Refuse) {
            return session.channel_failure(id);
        }
        session.channel_success(id)?;
        tokio::spawn(run(self.plan.command.clone(), channel, session.handle()));
        Ok(())
    }
}

async fn run(command: Command, channel: Channel<Msg>, handle: server::Handle) {
    let id = channel.id();
    let status = match command {
        Command::Serve(repo) => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            thread::spawn(move || {
                let repo = crate::git::repository::open_source(&repo).unwrap();
                crate::git::upload_pack::serve(
                    repo,
                    &ours,
                    &ours,
                    crate::git::large::Scratch::new(Path::new("/")),
                    &AtomicBool::new(false),
                )
                .ok();
            });
            theirs.set_nonblocking(true).unwrap();
            let theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
            let (mut from, mut to) = theirs.into_split();
            let (mut input, mut output) = tokio::io::split(channel.into_stream());
            tokio::spawn(async move {
                tokio::io::copy(&mut input, &mut to).await.ok();
                to.shutdown().await.ok();
            });
            tokio::io::copy(&mut from, &mut output).await.ok();
            0
        }
        Command::Say(out, err, status) => {
            handle.extended_data(id, 1, err).await.ok();
            handle.data(id, out).await.ok();
            status
        }
        Command::Greet(out) => {
            handle.data(id, out).await.ok();
            std::future::pending().await
        }
        Command::Nothing => std::future::pending().await,
        Command::Refuse => unreachable!(),
    };
    handle.exit_status_request(id, status).await.ok();
    handle.eof(id).await.ok();
    handle.close(id).await.ok();
}

/// What happens on a line once so many bytes have come from the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    Silence,
    Cut,
}

/// A line to the server at `port` that carries `bytes` from there.
pub(crate) fn line(port: u16, bytes: u64, then: Then) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to).ok());
            thread::spawn(move || {
                let mut client = client;
                std::io::copy(&mut (&server).take(bytes), &mut client).ok();
                client.flush().ok();
                if let Then::Cut = then {
                    client.shutdown(Shutdown::Both).ok();
                    return;
                }
                // Hold the line until the client has gone; the other thread sees that.
                std::io::copy(&mut &server, &mut std::io::sink()).ok();
            });
        }
    });
    here
}
