//! A repository on this machine, served by a thread of this process: no git, and the same code as for the rest.
//!
//! The thread lives as long as the connection: once that is dropped, it stops at the next object. The repository is
//! opened and read by that thread alone: whatever holds it up there (a fifo, a file system that does not answer), the
//! run goes on at its deadline, and leaves the thread behind. [`Threads`] knows those.
//! What is said is the business of `upload_pack`.

use std::{
    fs::Metadata,
    io::{self, BufReader, BufWriter, Read},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
};

use gix_transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};

use super::{Deadline, Timed, Transport};
use crate::{
    base::{mutex, name::AbsPath},
    git::{large::Scratch, repository, upload_pack},
};

mod error;

pub(super) use error::Error;
use error::MAX_LEFT;

/// What is read at a time, in bytes: as over the network.
const BUFFER: usize = 64 * 1024;

/// The threads that serve. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Threads(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: Mutex<Vec<Serving>>,
    ended: Condvar,
}

/// A thread that serves, until it has ended.
#[derive(Debug)]
struct Serving {
    path: PathBuf,
    /// Set once its client has gone.
    stop: Arc<AtomicBool>,
}

impl Threads {
    /// Have a place for another thread that reads `path`, before `deadline`.
    fn enter(&self, path: &Path, stop: &Arc<AtomicBool>, deadline: Deadline) -> Option<Entered> {
        let full = |all: &mut Vec<Serving>| {
            let left = |one: &&Serving| one.path == path && one.stop.load(Ordering::Relaxed);
            all.iter().filter(left).count() >= MAX_LEFT
        };
        let patience = deadline.left().unwrap_or_default();
        let waited = self
            .0
            .ended
            .wait_timeout_while(mutex::lock(&self.0.all), patience, full);
        let (mut all, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        all.push(Serving {
            path: path.into(),
            stop: stop.clone(),
        });
        Some(Entered {
            threads: self.clone(),
            stop: stop.clone(),
        })
    }
}

/// A thread's entry in the list.
struct Entered {
    threads: Threads,
    stop: Arc<AtomicBool>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        mutex::lock(&self.threads.0.all).retain(|one| !Arc::ptr_eq(&one.stop, &self.stop));
        self.threads.0.ended.notify_all();
    }
}

/// Serve the repository at `path` to the transport that is returned.
pub(super) fn connect(
    path: &AbsPath,
    deadline: Deadline,
    scratch: &Path,
    threads: &Threads,
) -> Result<Box<dyn Transport + Send>, Error> {
    serve(path, deadline, scratch, threads).map(|(transport, _)| transport)
}

/// What the thread that serves comes to; nothing if it could not open the repository.
type Served = JoinHandle<Option<Result<(), upload_pack::Error>>>;

fn serve(
    path: &AbsPath,
    deadline: Deadline,
    scratch: &Path,
    threads: &Threads,
) -> Result<(Box<dyn Transport + Send>, Served), Error> {
    let scratch = Scratch::new(scratch);
    let failed = |source| Error::Serve {
        path: path.as_path().into(),
        source,
    };
    let (theirs, ours) = UnixStream::pair().map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let socket = Timed::new(theirs, deadline);
    let client = Client {
        socket: socket.clone(),
        stop: stop.clone(),
    };
    let Some(entered) = threads.enter(path.as_path(), &stop, deadline) else {
        return Err(Error::Hanging {
            path: path.as_path().into(),
        });
    };
    let (say, opened) = mpsc::sync_channel(1);
    let source = path.clone();
    let served = thread::Builder::new()
        .name("upload-pack".into())
        .spawn(move || {
            let _entered = entered;
            let repo = match open(&source) {
                Ok(repo) => repo,
                Err(err) => {
                    say.send(Err(err)).ok();
                    return None;
                }
            };
            say.send(Ok(())).ok();
            let served = upload_pack::serve(repo, &ours, &ours, scratch, &stop);
            if let Err(err) = &served {
                // The client was told, if it is still there.
                tracing::debug!("upload-pack: {err}");
            }
            Some(served)
        })
        .map_err(failed)?;
    match opened.recv_timeout(deadline.left().unwrap_or_default()) {
        Ok(opened) => opened?,
        Err(RecvTimeoutError::Timeout) => {
            return Err(Error::Slow {
                path: path.as_path().into(),
                after: deadline.after(),
            });
        }
        Err(RecvTimeoutError::Disconnected) => {
            return Err(failed(io::Error::other("the thread that opens it has panicked")));
        }
    }
    // gix says and reads lines piece by piece: each would be another turn of the two threads.
    let connection = Connection::new(
        BufReader::with_capacity(BUFFER, client),
        BufWriter::new(socket),
        Protocol::V2,
        path.as_path().as_os_str().as_bytes(),
        None::<(&str, _)>,
        ConnectMode::Process,
        false,
    );
    Ok((Box::new(connection), served))
}

/// Open what is at `path`, or say what is there instead.
fn open(path: &AbsPath) -> Result<gix::Repository, Error> {
    let path = path.as_path();
    let meta = std::fs::metadata(path).map_err(|err| unreadable(path, &err))?;
    repository::open_source(path).map_err(|err| explain(path, &meta, &err))
}

/// What to do where there is nothing at `path`. git would take what has `.git` at its end besides; a sandbox lets only be
/// read what the configuration names.
fn absent(path: &Path) -> String {
    let mut longer = path.as_os_str().to_owned();
    longer.push(".git");
    if Path::new(&longer).exists() {
        format!(
            "there is one at {}: write that, git alone adds the end",
            longer.display()
        )
    } else {
        "correct `repo`, or create the repository".to_owned()
    }
}

fn unreadable(path: &Path, err: &io::Error) -> Error {
    let path = path.to_owned();
    match err.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Absent {
            help: absent(&path),
            path,
        },
        io::ErrorKind::PermissionDenied => Error::Denied { path },
        _ => Error::NotRepository {
            path,
            reason: err.to_string(),
        },
    }
}

/// Why a path that exists is not a repository.
fn explain(path: &Path, meta: &Metadata, err: &gix::Error) -> Error {
    if let Some(trap) = err.downcast_any_ref::<repository::Trap>() {
        return Error::Trap {
            path: path.into(),
            trap: trap.to_string(),
        };
    }
    if let Some(unsupported) = err.downcast_any_ref::<repository::Unsupported>() {
        return Error::Format {
            path: path.into(),
            unsupported: unsupported.clone(),
        };
    }
    let denied =
        |path: &Path| std::fs::metadata(path).is_err_and(|err| err.kind() == io::ErrorKind::PermissionDenied);
    let path = path.to_owned();
    if err.is_permission_denied() || denied(&path.join(".git")) || denied(&path.join("HEAD")) {
        Error::Denied { path }
    } else if meta.is_file() && !path.ends_with(".git") {
        Error::File { path }
    } else {
        let reason = err.to_string();
        Error::NotRepository { path, reason }
    }
}

/// The client's end: the thread need not wait for the next byte it writes to learn that the client is gone.
struct Client {
    socket: Timed<UnixStream>,
    stop: Arc<AtomicBool>,
}

impl Read for Client {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buf)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use gix_transport::{
        Service,
        client::blocking_io::{Transport as _, TransportV2Ext},
    };

    use super::*;
    use crate::base::fault::{Blame as _, Kind};

    fn path(path: &Path) -> AbsPath {
        AbsPath::resolve(Path::new("/"), path).unwrap()
    }

    fn deadline() -> Deadline {
        Deadline::new(Duration::from_secs(60))
    }

    /// A repository with a blob that no socket's buffer holds, and the id of that.
    fn large() -> (tempfile::TempDir, gix::ObjectId) {
        let dir = crate::machine::tempdir().unwrap();
        let repo = gix::init_bare(dir.path()).unwrap();
        let mut bytes = vec![0; 4 << 20];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let id = repo.write_blob(bytes).unwrap().detach();
        (dir, id)
    }

    #[test]
    fn the_thread_ends_with_the_connection() {
        let (dir, id) = large();
        let threads = Threads::default();
        // Before anything was said.
        let (transport, served) = serve(&path(dir.path()), deadline(), dir.path(), &threads).unwrap();
        drop(transport);
        served.join().unwrap().unwrap().ok();

        // After the handshake.
        let (mut transport, served) = serve(&path(dir.path()), deadline(), dir.path(), &threads).unwrap();
        transport.handshake(Service::UploadPack, &[]).unwrap();
        drop(transport);
        served.join().unwrap().unwrap().ok();

        // In the middle of a pack that is not read.
        let (mut transport, served) = serve(&path(dir.path()), deadline(), dir.path(), &threads).unwrap();
        transport.handshake(Service::UploadPack, &[]).unwrap();
        let arguments = [format!("want {id}").into(), "done".into()];
        let mut answer = transport
            .invoke(
                "fetch",
                std::iter::empty::<(&str, Option<&str>)>(),
                Some(arguments.into_iter()),
                false,
            )
            .unwrap();
        let mut line = String::new();
        answer.readline_str(&mut line).unwrap();
        assert_eq!(line, "packfile\n");
        drop(answer);
        drop(transport);
        let err = served.join().unwrap().unwrap().unwrap_err();
        assert!(
            matches!(err, upload_pack::Error::Gone(_) | upload_pack::Error::Stopped),
            "{err}"
        );
    }

    #[test]
    fn what_is_no_repository_is_said() {
        let dir = crate::machine::tempdir().unwrap();
        let at = |name: &str| path(&dir.path().join(name));
        let said = |name: &str| open(&at(name)).unwrap_err();
        assert!(matches!(said("nothing"), Error::Absent { .. }));

        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert!(matches!(said("file"), Error::File { .. }));
        assert!(matches!(said("file/below"), Error::Absent { .. }));

        // A directory inside a repository is not one.
        gix::init(dir.path().join("repo")).unwrap();
        std::fs::create_dir(dir.path().join("repo/sub")).unwrap();
        let err = said("repo/sub");
        assert!(matches!(err, Error::NotRepository { .. }), "{err}");
        assert_eq!(err.kind(), Kind::Remote);
        open(&at("repo")).unwrap();
        open(&at("repo/.git")).unwrap();

        let config = dir.path().join("repo/.git/config");
        std::fs::write(
            config,
            "[core]\nrepositoryformatversion = 1\n[extensions]\nrefStorage = reftable\n",
        )
        .unwrap();
        let err = said("repo");
        assert!(matches!(err, Error::Format { .. }), "{err}");
    }
}
