//! Makes a Unix socket that no client can connect to before its mode and group are set.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
};

use super::Error;
use crate::base::{identity::Identity, rights::group_id};

/// The file of a Unix socket. Dropping it removes the file, if it is still the same one; but not in a process that was
/// forked from the one that made it.
#[derive(Debug)]
pub struct SocketFile {
    pub(super) path: PathBuf,
    id: Identity,
    maker: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.maker == std::process::id() && Identity::at(&self.path).is_ok_and(|id| id == self.id) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Make the socket in a directory that only this user can enter, and give it its name once its permissions are set: until then they
/// depend on the umask.
///
/// Daemons that start at the same time take turns by a lock on the directory, as the version before does. But any user who may read
/// the directory can hold that lock: so the wait for it is limited, and `publish` makes sure that no daemon takes the name from a
/// running one.
pub fn bind_unix(path: &Path, mode: u32, group: Option<&str>) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |source| Error::Bind {
        addr: path.display().to_string(),
        source,
    };
    // A longer path can be renamed to, but no client could connect to it.
    SocketAddr::from_pathname(path).map_err(failed)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let turn = File::open(dir).map_err(failed)?;
    take_turn(&turn);
    refuse_live(path)?;

    let private = Private::new(dir).map_err(failed)?;
    let new = private.socket();
    // The temporary path may be too long for a socket address even if the final one is not; by /proc it is short.
    let short = Path::new("/proc/self/fd")
        .join(turn.as_raw_fd().to_string())
        .join(new.strip_prefix(dir).unwrap_or(&new));
    let at = SocketAddr::from_pathname(&new).or_else(|_| SocketAddr::from_pathname(short));
    let listener = at.and_then(|at| UnixListener::bind_addr(&at)).map_err(failed)?;
    set_permissions(&new, path, mode, group)?;
    let id = Identity::at(&new).map_err(failed)?;
    publish(&new, path)?;
    Ok((
        listener,
        SocketFile {
            path: path.into(),
            id,
            maker: std::process::id(),
        },
    ))
}

/// How many times, and after which pause, to try the lock: a daemon of the version before holds it while it waits for an answer
/// from a socket.
const TURN_TRIES: u32 = 200;
const TURN_PAUSE: Duration = Duration::from_millis(10);

/// Lock the directory, if that is possible in time.
fn take_turn(dir: &File) {
    for _ in 0..TURN_TRIES {
        match flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::park_timeout(TURN_PAUSE),
            _ => return,
        }
    }
    tracing::warn!(
        "another process holds a lock (flock) on the socket's directory; the daemon starts without it, see `lslocks`"
    );
}

/// How many times another process may replace the file at the path before this gives up.
const REPLACED: u32 = 16;

/// Give the socket `new` the name `path`. The file there is replaced only if it is the one that was found to be stale: both are
/// exchanged in one system call, and if it is another file, such as the socket of a daemon that has started meanwhile, they are
/// exchanged back.
fn publish(new: &Path, path: &Path) -> Result<(), Error> {
    let failed = |errno: Errno| Error::Bind {
        addr: path.display().to_string(),
        source: errno.into(),
    };
    for _ in 0..REPLACED {
        let stale = match Identity::at(path) {
            Ok(stale) => stale,
            Err(_) => match rename(new, path, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => continue,
                // The file system does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    return rename(new, path, RenameFlags::empty()).map_err(failed);
                }
                Err(errno) => return Err(failed(errno)),
            },
        };
        refuse_live(path)?;
        match rename(new, path, RenameFlags::EXCHANGE) {
            Ok(()) if Identity::at(new).is_ok_and(|old| old == stale) => return Ok(()),
            Ok(()) => rename(new, path, RenameFlags::EXCHANGE).map_err(failed)?,
            Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                return rename(new, path, RenameFlags::empty()).map_err(failed);
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::BUSY))
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
}

/// A directory for one socket; both are removed when it is dropped.
struct Private(PathBuf);

impl Private {
    const NAME: &str = "s";
    /// How many names to try: other users may have made files of that name, if they can write there.
    const TRIES: u32 = 16;

    fn new(dir: &Path) -> io::Result<Self> {
        let name = format!(".gitsocket-{}", std::process::id());
        let make = |name: &str| {
            let path = dir.join(name);
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map(|()| Self(path))
        };
        // A killed process with the same id may have left it; a directory of another user is not touched.
        let old = dir.join(&name);
        let us = rustix::process::geteuid().as_raw();
        if fs::symlink_metadata(&old).is_ok_and(|meta| meta.is_dir() && meta.uid() == us) {
            drop(Self(old));
        }
        let mut made = make(&name);
        for _ in 0..Self::TRIES {
            if !made
                .as_ref()
                .is_err_and(|err| err.kind() == io::ErrorKind::AlreadyExists)
            {
                break;
            }
            made = make(&format!("{name}-{:08x}", fastrand::u32(..)));
        }
        made
    }

    fn socket(&self) -> PathBuf {
        self.0.join(Self::NAME)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        fs::remove_file(self.socket()).ok();
        fs::remove_dir(&self.0).ok();
    }
}

/// An error unless `path` is free or a stale socket.
fn refuse_live(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => Err(Error::NotASocket { path: path.into() }),
        Ok(_) => match connect(path).and_then(is_live) {
            Ok(false) => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(true) => Err(Error::Live { path: path.into() }),
            // The backlog is full.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Err(Error::Live { path: path.into() }),
            Err(source) => Err(Error::Bind {
                addr: path.display().to_string(),
                source,
            }),
        },
    }
}

/// Connect without waiting.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// How long to wait for an answer from the process that holds the socket.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a running process holds the other end. The kernel also accepts connections for a daemon that is about to end, but then the
/// connection ends without an answer.
fn is_live(mut stream: UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = stream.write_all(b"ping\n").and_then(|()| stream.read(&mut [0]));
    Ok(match answer {
        Ok(read) => read > 0,
        Err(err) if matches!(err.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => false,
        // The time is over, or a signal came: the connection stays open, so the process runs.
        Err(_) => true,
    })
}

/// Set group and mode of `file`, which is to be renamed to `path`.
pub(super) fn set_permissions(file: &Path, path: &Path, mode: u32, group: Option<&str>) -> Result<(), Error> {
    let failed = |what| {
        move |source| Error::Permissions {
            what,
            path: path.into(),
            source,
        }
    };
    if let Some(group) = group {
        let gid = group_id(group).ok_or_else(|| Error::Group {
            path: path.into(),
            group: group.into(),
        })?;
        std::os::unix::fs::chown(file, None, Some(gid)).map_err(failed("the group"))?;
    }
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).map_err(failed("the mode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket at `path`, and the listener behind it.
    fn live(path: &Path) -> (UnixListener, Identity) {
        let listener = UnixListener::bind(path).unwrap();
        (listener, Identity::at(path).unwrap())
    }

    #[test]
    fn the_name_is_taken_from_no_other_daemon() {
        let dir = crate::machine::tempdir().unwrap();
        let [path, first, second] = ["s", "first", "second"].map(|name| dir.path().join(name));
        let (listener, id) = live(&first);
        publish(&first, &path).unwrap();
        assert_eq!(Identity::at(&path).unwrap(), id);
        let (_other, other) = live(&second);
        assert!(matches!(publish(&second, &path), Err(Error::Live { .. })));
        assert_eq!(Identity::at(&path).unwrap(), id);
        drop(listener);
        publish(&second, &path).unwrap();
        assert_eq!(Identity::at(&path).unwrap(), other);
        assert_eq!(Identity::at(&second).unwrap(), id, "the stale one");
        fs::remove_file(&second).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        let _third = live(&second);
        assert!(matches!(publish(&second, &path), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_name_that_others_have_taken_is_not_needed() {
        let dir = crate::machine::tempdir().unwrap();
        let taken = dir.path().join(format!(".gitsocket-{}", std::process::id()));
        let [theirs, path] = ["theirs", "s"].map(|name| dir.path().join(name));
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join(Private::NAME), "").unwrap();
        std::os::unix::fs::symlink(&theirs, &taken).unwrap();
        let _socket = bind_unix(&path, 0o600, None).unwrap();
        assert!(theirs.join(Private::NAME).exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, file) = bind_unix(&path, 0o640, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        let again = bind_unix(&path, 0o600, None);
        assert!(matches!(again, Err(Error::Live { .. })), "{again:?}");
        std::mem::forget(file);
        drop(listener);
        assert!(path.exists(), "stale");
        let (_listener, file) = bind_unix(&path, 0o600, None).unwrap();
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn long_paths_work_up_to_the_limit() {
        let dir = crate::machine::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(104 - dir.path().as_os_str().len()));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("s");
        assert_eq!(path.as_os_str().len(), 107);
        let (_listener, _file) = bind_unix(&path, 0o600, None).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(matches!(
            bind_unix(&deep.join("longer"), 0o600, None),
            Err(Error::Bind { source, .. }) if source.kind() == io::ErrorKind::InvalidInput
        ));
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1);
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(
            bind_unix(&path, 0o600, None),
            Err(Error::NotASocket { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(matches!(
            bind_unix(&dir.path().join("t"), 0o600, Some("no such group")),
            Err(Error::Group { .. })
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
