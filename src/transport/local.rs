//! A repository on this machine, served by a thread of this process: no git, and the same code as for the rest.
//!
//! The thread lives as long as the connection: once that is dropped, it stops at the next object.
//! What is said is the business of `upload_pack`.

use std::{
    fs::Metadata,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use gix_transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};

use super::{Deadline, Timed, Transport};
use crate::{
    fault::{Blame, Kind, kind_of_io},
    large::Scratch,
    name::AbsPath,
    repository, upload_pack,
};

/// A local repository cannot be fetched from.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is nothing.
    #[error("there is no repository at {path}: no such file or directory")]
    #[diagnostic(help("correct `repo`, or create the repository"))]
    Absent {
        /// Where.
        path: PathBuf,
    },
    /// It may not be read.
    #[error("the repository at {path} may not be read: permission denied")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read all of it"))]
    Denied {
        /// Where.
        path: PathBuf,
    },
    /// There is a file.
    #[error("{path} is a file, not a repository")]
    #[diagnostic(help("`repo` must name a worktree, a bare repository or a .git directory"))]
    File {
        /// Where.
        path: PathBuf,
    },
    /// There is something else.
    #[error("{path} is not a usable git repository: {reason}")]
    #[diagnostic(help(
        "`repo` must name a worktree, a bare repository or a .git directory; none is searched for above it"
    ))]
    NotRepository {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its refs are kept in a way that is not known here.
    #[error("the repository at {path} stores its refs as {format:?}, which is not supported")]
    #[diagnostic(help("convert it with `git refs migrate --ref-format=files`"))]
    RefFormat {
        /// Where.
        path: PathBuf,
        /// How.
        format: String,
    },
    /// The system has no thread or socket left.
    #[error("cannot serve the repository at {path}")]
    #[diagnostic(help("the limits on processes, threads or open files may be reached"))]
    Serve {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Serve { source, .. } => match kind_of_io(source) {
                Kind::Path => Kind::Resources,
                kind => kind,
            },
            _ => Kind::Remote,
        }
    }
}

/// Serve the repository at `path` to the transport that is returned.
pub(super) fn connect(
    path: &AbsPath,
    deadline: Deadline,
    scratch: &Path,
) -> Result<Box<dyn Transport + Send>, Error> {
    serve(path, deadline, scratch).map(|(transport, _)| transport)
}

/// What the thread that serves comes to.
type Served = JoinHandle<Result<(), upload_pack::Error>>;

fn serve(
    path: &AbsPath,
    deadline: Deadline,
    scratch: &Path,
) -> Result<(Box<dyn Transport + Send>, Served), Error> {
    let scratch = Scratch::new(scratch);
    let repo = open(path)?;
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
    let served = thread::Builder::new()
        .name("upload-pack".into())
        .spawn(move || {
            let served = upload_pack::serve(repo, &ours, &ours, scratch, &stop);
            if let Err(err) = &served {
                // The client was told, if it is still there.
                tracing::debug!("upload-pack: {err}");
            }
            served
        })
        .map_err(failed)?;
    let connection = Connection::new(
        client,
        socket,
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
    let repo = repository::open_source(path).map_err(|err| explain(path, &meta, &err))?;
    match repo.config_snapshot().string("extensions.refStorage") {
        Some(format) if format.to_ascii_lowercase() != b"files" => Err(Error::RefFormat {
            path: path.into(),
            format: format.to_string(),
        }),
        _ => Ok(repo),
    }
}

fn unreadable(path: &Path, err: &io::Error) -> Error {
    let path = path.to_owned();
    match err.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Absent { path },
        io::ErrorKind::PermissionDenied => Error::Denied { path },
        _ => Error::NotRepository {
            path,
            reason: err.to_string(),
        },
    }
}

/// Why a path that exists is not a repository.
fn explain(path: &Path, meta: &Metadata, err: &gix::Error) -> Error {
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

/// The client's end: the thread need not wait for the next byte it writes to learn that nobody listens.
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

    fn path(path: &Path) -> AbsPath {
        AbsPath::resolve(Path::new("/"), path).unwrap()
    }

    fn deadline() -> Deadline {
        Deadline::new(Duration::from_secs(60))
    }

    /// A repository with a blob that no socket's buffer holds, and the id of that.
    fn large() -> (tempfile::TempDir, gix::ObjectId) {
        let dir = tempfile::TempDir::new().unwrap();
        let repo = gix::init_bare(dir.path()).unwrap();
        let mut bytes = vec![0; 4 << 20];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let id = repo.write_blob(bytes).unwrap().detach();
        (dir, id)
    }

    #[test]
    fn the_thread_ends_with_the_connection() {
        let (dir, id) = large();
        // Before anything was said.
        let (transport, served) = serve(&path(dir.path()), deadline(), dir.path()).unwrap();
        drop(transport);
        served.join().unwrap().ok();

        // After the handshake.
        let (mut transport, served) = serve(&path(dir.path()), deadline(), dir.path()).unwrap();
        transport.handshake(Service::UploadPack, &[]).unwrap();
        drop(transport);
        served.join().unwrap().ok();

        // In the middle of a pack that nobody reads.
        let (mut transport, served) = serve(&path(dir.path()), deadline(), dir.path()).unwrap();
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
        let err = served.join().unwrap().unwrap_err();
        assert!(
            matches!(err, upload_pack::Error::Gone(_) | upload_pack::Error::Stopped),
            "{err}"
        );
    }

    #[test]
    fn what_is_no_repository_is_said() {
        let dir = tempfile::TempDir::new().unwrap();
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
        assert!(matches!(err, Error::RefFormat { .. }), "{err}");
    }
}
