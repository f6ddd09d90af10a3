//! A web server with a repository that counts what it is asked for, and answers as a test tells it to.

use std::{
    collections::BTreeMap,
    io::BufReader,
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::over_http::{Asked, request, respond, upload_pack};

pub struct Remote {
    port: u16,
    pub shared: Arc<Shared>,
}

#[derive(Default)]
pub struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
pub struct Seen {
    pub connections: usize,
    /// How often what was asked for.
    asked: BTreeMap<Asked, usize>,
    /// How many requests wait for an answer, and how many did at a time.
    pub inside: usize,
    pub most: usize,
    /// Say nothing.
    pub holds: bool,
    /// Answer that the repository is not there.
    pub refuses: bool,
    /// Speak the protocol of ten years ago.
    pub is_old: bool,
    /// End each connection after one answer, without a word.
    pub hangs_up: bool,
}

impl Remote {
    pub fn start(repo: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let (repo, all) = (repo.to_owned(), shared.clone());
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (repo, shared) = (repo.clone(), all.clone());
                shared.change(|seen| seen.connections += 1);
                // A client that has gone is no matter.
                thread::spawn(move || serve(&repo, socket, &shared).ok());
            }
        });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/repo.git", self.port)
    }

    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.lock().unwrap())
    }

    /// Wait until `is_there`.
    pub fn wait_for(&self, is_there: impl Fn(&Seen) -> bool) {
        let seen = self.shared.seen.lock().unwrap();
        drop(
            self.shared
                .changed
                .wait_while(seen, |seen| !is_there(seen))
                .unwrap(),
        );
    }

    /// How often it was asked for its refs, and for objects.
    pub fn asked(&self) -> (usize, usize) {
        self.look(|seen| (seen.asked(Asked::Refs), seen.asked(Asked::Fetch)))
    }
}

impl Seen {
    pub fn asked(&self, what: Asked) -> usize {
        self.asked.get(&what).copied().unwrap_or_default()
    }
}

impl Shared {
    pub fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }
}

fn serve(repo: &Path, socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut to = socket.try_clone()?;
    let mut from = BufReader::new(socket);
    while let Some((asked, body)) = request(&mut from)? {
        shared.change(|seen| {
            *seen.asked.entry(asked).or_default() += 1;
            seen.inside += 1;
            seen.most = seen.most.max(seen.inside);
        });
        let seen = shared.seen.lock().unwrap();
        let seen = shared.changed.wait_while(seen, |seen| seen.holds).unwrap();
        let (refuses, is_old, hangs_up) = (seen.refuses, seen.is_old, seen.hangs_up);
        drop(seen);
        let answers = !(refuses || is_old && asked == Asked::Refs);
        let answer = answers.then(|| upload_pack(repo, asked, &body, if is_old { 0 } else { 2 }));
        shared.change(|seen| seen.inside -= 1);
        respond(&mut to, asked, answer.as_deref())?;
        if hangs_up {
            break;
        }
    }
    Ok(())
}
