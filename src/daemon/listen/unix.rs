//! A Unix socket that appears whole: nobody connects before its mode and group are right.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
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
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::Error;
use crate::base::bounded::{self, LIST};

/// The file of a Unix socket. Dropping it removes the file, if it is still the same one; but not in a process that was
/// forked from the one that made it.
#[derive(Debug)]
pub struct SocketFile {
    pub(super) path: PathBuf,
    id: (u64, u64),
    maker: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.maker == std::process::id() && identity(&self.path).is_ok_and(|id| id == self.id) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// The socket is made in a directory that only this user can enter, and renamed once its permissions are right: until
/// then they are what the umask leaves. Two daemons that start at once take turns by a lock on the directory.
pub(super) fn bind_unix(
    path: &Path,
    mode: u32,
    group: Option<&str>,
) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |source| Error::Bind {
        addr: path.display().to_string(),
        source,
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let turn = File::open(dir).map_err(failed)?;
    take_turn(&turn).map_err(failed)?;
    refuse_live(path)?;
    // A longer path can be renamed to, but nobody could connect to it.
    SocketAddr::from_pathname(path).map_err(failed)?;

    let private = Private::new(dir.join(format!(".gitsocket-{}", std::process::id()))).map_err(failed)?;
    let new = private.socket();
    // The temporary name may be too long where the final one is not: by way of /proc it is short.
    let short = format!(
        "/proc/self/fd/{}/.gitsocket-{}/{}",
        turn.as_raw_fd(),
        std::process::id(),
        Private::NAME
    );
    let at = SocketAddr::from_pathname(&new).or_else(|_| SocketAddr::from_pathname(short));
    let listener = at.and_then(|at| UnixListener::bind_addr(&at)).map_err(failed)?;
    let publish = || {
        set_permissions(&new, path, mode, group)?;
        let id = identity(&new).map_err(failed)?;
        fs::rename(&new, path).map_err(failed)?;
        Ok(id)
    };
    match publish() {
        Ok(id) => Ok((
            listener,
            SocketFile {
                path: path.into(),
                id,
                maker: std::process::id(),
            },
        )),
        Err(err) => Err(err),
    }
}

/// How often, and in what time, to try whether it is our turn.
const TURN_TRIES: u32 = 100;
const TURN_PAUSE: Duration = Duration::from_millis(10);

/// Lock the directory, but not for ever: whoever can open it can hold the lock, and the daemon has signals to hear.
fn take_turn(dir: &File) -> io::Result<()> {
    for _ in 0..TURN_TRIES {
        match flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::park_timeout(TURN_PAUSE),
            locked => return Ok(locked?),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::WouldBlock,
        "another process holds a lock on its directory (flock)",
    ))
}

/// A directory for one socket, which goes with all that is left in it.
struct Private(PathBuf);

impl Private {
    const NAME: &str = "s";

    fn new(path: PathBuf) -> io::Result<Self> {
        // Of a process of this number that was killed in the middle.
        let private = Self(path);
        private.remove();
        fs::DirBuilder::new().mode(0o700).create(&private.0)?;
        Ok(private)
    }

    fn socket(&self) -> PathBuf {
        self.0.join(Self::NAME)
    }

    fn remove(&self) {
        fs::remove_file(self.socket()).ok();
        fs::remove_dir(&self.0).ok();
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A stale socket may be replaced; a live one, or anything else, may not.
fn refuse_live(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => Err(Error::NotASocket { path: path.into() }),
        Ok(_) => match UnixStream::connect(path).and_then(is_live) {
            Ok(false) => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(true) => Err(Error::Live { path: path.into() }),
            Err(source) => Err(Error::Bind {
                addr: path.display().to_string(),
                source,
            }),
        },
    }
}

/// How long to wait for a sign from whoever holds the socket.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether anybody is behind a connection. The kernel accepts for a daemon that is dying, too; but then the connection
/// ends without a word.
fn is_live(mut stream: UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = stream.write_all(b"ping\n").and_then(|()| stream.read(&mut [0]));
    Ok(match answer {
        Ok(read) => read > 0,
        // Silence is a sign of life.
        Err(err) => err.kind() == io::ErrorKind::WouldBlock,
    })
}

/// Set group and mode of `file`, which will be `path`.
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

/// The number of a group, from its number or from group(5). No name service is asked: a static binary has none.
pub(super) fn group_id(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| {
        let text = bounded::read(Path::new("/etc/group"), LIST).ok()?;
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&group))
            .and_then(|fields| fields.get(2)?.parse().ok())
    })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, file) = bind_unix(&path, 0o640, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(matches!(bind_unix(&path, 0o600, None), Err(Error::Live { .. })));
        std::mem::forget(file);
        drop(listener);
        assert!(path.exists(), "stale");
        let (_listener, file) = bind_unix(&path, 0o600, None).unwrap();
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn long_paths_work_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
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
        let dir = tempfile::tempdir().unwrap();
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
