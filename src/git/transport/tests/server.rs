//! An HTTP/1.1 server for tests: answers as it is told, and remembers what it was asked.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What the server does about a request.
pub(crate) enum Answer {
    /// Say this, and wait for the next request.
    Say(Vec<u8>),
    Cut(Vec<u8>),
    /// Say nothing until the client hangs up.
    Nothing,
    /// Say this, then a byte now and then, without end.
    Trickle(Vec<u8>),
    /// Pass everything on to this port of this host, as a proxy does for `CONNECT`.
    Tunnel(u16),
}

pub(crate) fn reply(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Answer::Say(out)
}

pub(crate) trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A server that runs until the test program ends.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// A server that does what `answer` says.
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(|socket| Box::new(socket), answer)
    }

    /// A server that speaks with its clients through what `secure` makes of their sockets.
    pub(crate) fn start_with(
        secure: impl Fn(TcpStream) -> Box<dyn Duplex> + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let (this, shared) = (server.clone(), Arc::new((secure, answer)));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (this, shared) = (this.clone(), shared.clone());
                this.connections.fetch_add(1, Ordering::SeqCst);
                let socket = socket.unwrap();
                let raw = socket.try_clone().unwrap();
                thread::spawn(move || this.serve(shared.0(socket), raw, &shared.1));
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn serve(&self, stream: Box<dyn Duplex>, raw: TcpStream, answer: &dyn Fn(&Request) -> Answer) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream) {
            self.requests.lock().unwrap().push(request.clone());
            let done = match answer(&request) {
                Answer::Say(bytes) => say(&mut stream, &bytes).is_err(),
                Answer::Cut(bytes) => {
                    let _gone = say(&mut stream, &bytes);
                    true
                }
                Answer::Nothing => {
                    let _gone = io::copy(&mut stream, &mut io::sink());
                    true
                }
                Answer::Trickle(bytes) => {
                    let mut result = say(&mut stream, &bytes);
                    while result.is_ok() {
                        // The pace is what is tested.
                        thread::sleep(Duration::from_millis(20));
                        result = say(&mut stream, b"x");
                    }
                    true
                }
                Answer::Tunnel(port) => {
                    say(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                    tunnel(&raw, port);
                    true
                }
            };
            if done {
                return;
            }
        }
    }
}

fn say(stream: &mut BufReader<Box<dyn Duplex>>, bytes: &[u8]) -> io::Result<()> {
    stream.get_mut().write_all(bytes)?;
    stream.get_mut().flush()
}

/// The next request, unless the client hung up.
fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut request = Request::default();
    while !request.head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut request.head) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    assert_eq!(request.header("expect"), None);
    let length = request.header("content-length").unwrap_or("0").parse().unwrap();
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// Pass all on between `client` and the server at `port`, until both have hung up.
fn tunnel(client: &TcpStream, port: u16) {
    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let pass = |mut from: &TcpStream, mut to: &TcpStream| {
        let _gone = io::copy(&mut from, &mut to);
        let _gone = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| pass(client, &server));
        pass(&server, client);
    });
}
